"""The order of the story, told by six fakes (and a seventh that measures)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from covey.loop import reinforce
from covey.protocols import Engine, Evaluate, Keep, Learner, Recorder, Source, Watch
from covey.types import CoveyError, Evaluation, Group, Problem, Request, Update, Weights

Call = tuple[Any, ...]


def group(step: int) -> Group:
    return Group(Problem(f"problem of step {step}", ()), (), ())


@dataclass
class FakeSource:
    calls: list[Call]

    def next(self, step: int) -> Sequence[Group]:
        self.calls.append(("source.next", step))
        return (group(step),)

    def state(self) -> Mapping[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        raise AssertionError("the loop doesn't restore")


@dataclass
class FakeLearner:
    calls: list[Call]
    version: int = 0
    fails_at: int | None = None

    def update(self, step: int, groups: Sequence[Group]) -> Update:
        self.calls.append(("learner.update", step, tuple(groups)))
        if step == self.fails_at:
            raise FloatingPointError("the gradient is not finite")
        self.version += 1
        return Update(trained=True, metrics={"step": float(step)})

    def weights(self) -> Weights:
        return Weights(self.version, policy=self)


@dataclass
class FakeEngine:
    calls: list[Call]

    def generate(self, requests: Sequence[Request]) -> Any:
        raise AssertionError("the loop doesn't sample: the source does")

    def load(self, weights: Weights) -> None:
        self.calls.append(("engine.load", weights.version))


@dataclass
class FakeRecorder:
    calls: list[Call]

    def groups(self, step: int, groups: Sequence[Group]) -> None:
        self.calls.append(("recorder.groups", step, tuple(groups)))

    def update(self, step: int, update: Update) -> None:
        self.calls.append(("recorder.update", step, update.metrics["step"]))

    def evaluation(self, evaluation: Evaluation) -> None:
        self.calls.append(("recorder.evaluation", evaluation.step))


@dataclass
class FakeWatch:
    calls: list[Call]
    stops_at: tuple[str, int] | None = None

    def sampled(self, step: int, groups: Sequence[Group]) -> None:
        self.look("watch.sampled", step, tuple(groups))

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> None:
        self.look("watch.learned", step, tuple(groups), update.metrics["step"])

    def loaded(self, step: int, weights: Weights) -> None:
        self.look("watch.loaded", step, weights.version)

    def look(self, moment: str, step: int, *seen: Any) -> None:
        self.calls.append((moment, step, *seen))
        if (moment, step) == self.stops_at:
            raise CoveyError(f"found at {moment}")


@dataclass
class Fakes:
    """The parts of one run, all writing into one list of calls; ``due`` are the steps to evaluate after."""

    due: tuple[int, ...] = (0, 1, 2)
    fails_at: int | None = None
    stops_at: tuple[str, int] | None = None
    start: int = 0
    calls: list[Call] = field(default_factory=list)

    def evaluate(self, step: int) -> Evaluation | None:
        self.calls.append(("evaluate", step))
        return Evaluation(step, (), ()) if step in self.due else None

    def keep(self, step: int) -> None:
        self.calls.append(("keep", step))

    def run(self, steps: int) -> list[Call]:
        reinforce(
            source=FakeSource(self.calls),
            learner=FakeLearner(self.calls, version=self.start, fails_at=self.fails_at),
            engine=FakeEngine(self.calls),
            recorder=FakeRecorder(self.calls),
            watch=FakeWatch(self.calls, self.stops_at),
            evaluate=self.evaluate,
            keep=self.keep,
            steps=steps,
            start=self.start,
        )
        return self.calls


def handed_over(start: int) -> list[Call]:
    """Before anything is sampled, the engine has the learner's weights."""
    return [("engine.load", start), ("watch.loaded", start, start)]


def one_step(step: int) -> list[Call]:
    """Step ``step`` in full; the version counts optimizer steps, so it is one more after it."""
    return [
        ("source.next", step),
        ("recorder.groups", step, (group(step),)),
        ("watch.sampled", step, (group(step),)),
        ("learner.update", step, (group(step),)),
        ("engine.load", step + 1),
        ("recorder.update", step, float(step)),
        ("watch.learned", step, (group(step),), float(step)),
        ("watch.loaded", step + 1, step + 1),
        ("evaluate", step + 1),
        ("recorder.evaluation", step + 1),
        ("keep", step + 1),
    ]


def test_a_run_tells_its_story_in_order() -> None:
    before = [*handed_over(0), ("evaluate", 0), ("recorder.evaluation", 0)]
    assert Fakes().run(steps=2) == before + one_step(0) + one_step(1)


def test_a_resumed_run_goes_on_without_measuring_again() -> None:
    assert Fakes(start=1).run(steps=2) == handed_over(1) + one_step(1)


def test_a_finished_run_resumed_samples_and_learns_nothing() -> None:
    assert Fakes(start=2).run(steps=2) == handed_over(2)


def test_no_steps_measure_the_start_and_learn_nothing() -> None:
    assert Fakes().run(steps=0) == [*handed_over(0), ("evaluate", 0), ("recorder.evaluation", 0)]


def test_an_evaluation_that_is_not_due_is_not_recorded() -> None:
    calls = Fakes(due=(2,)).run(steps=2)
    assert [call for call in calls if call[0] == "recorder.evaluation"] == [("recorder.evaluation", 2)]
    assert [call for call in calls if call[0] == "evaluate"] == [
        ("evaluate", 0),
        ("evaluate", 1),
        ("evaluate", 2),
    ]


def test_an_update_that_fails_leaves_its_groups_recorded_and_the_engine_alone() -> None:
    fakes = Fakes(fails_at=1)
    with pytest.raises(FloatingPointError):
        fakes.run(steps=2)
    assert fakes.calls[-3:] == one_step(1)[1:4]


@pytest.mark.parametrize(
    ("moment", "step", "recorded"),
    [
        ("watch.loaded", 0, None),
        ("watch.sampled", 1, ("recorder.groups", 1, (group(1),))),
        ("watch.learned", 1, ("recorder.update", 1, 1.0)),
        ("watch.loaded", 2, ("recorder.update", 1, 1.0)),
    ],
)
def test_what_stops_a_run_is_recorded_before_and_nothing_follows(
    moment: str, step: int, recorded: Call | None
) -> None:
    fakes = Fakes(stops_at=(moment, step))
    with pytest.raises(CoveyError, match=moment):
        fakes.run(steps=3)
    assert fakes.calls[-1][:2] == (moment, step)
    assert recorded is None or recorded in fakes.calls


def test_the_fakes_are_what_they_stand_for() -> None:
    fakes = Fakes()
    assert isinstance(FakeSource([]), Source)
    assert isinstance(FakeLearner([]), Learner)
    assert isinstance(FakeEngine([]), Engine)
    assert isinstance(FakeRecorder([]), Recorder)
    assert isinstance(FakeWatch([]), Watch)
    assert isinstance(fakes.evaluate, Evaluate)
    assert isinstance(fakes.keep, Keep)
