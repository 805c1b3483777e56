"""What a run tells while it goes on: time by phase, the record, the view."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from covey.evals.outcome import measured
from covey.protocols import Engine, Learner, Recorder, Reward, submitted
from covey.records import RunReader, RunWriter
from covey.types import Completion, Episode, Evaluation, Group, Request, Score, Update, Weights
from covey.view.progress import Progress, StepReport


class Clock:
    """Seconds by phase; a phase inside another stops the outer one's clock."""

    def __init__(self) -> None:
        self._phases: list[str] = []
        self._since = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self._charge()
        self._phases.append(phase)
        try:
            yield
        finally:
            self._charge()
            self._phases.pop()

    def take(self) -> dict[str, float]:
        """The seconds gathered since the last call, which starts them anew."""
        self._charge()
        taken, self._seconds = self._seconds, {}
        return taken

    def _charge(self) -> None:
        now = time.perf_counter()
        phase = self._phases[-1] if self._phases else "other"
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._since
        self._since = now


class TimedEngine:
    """An engine whose time is charged to ``generate`` and ``sync``."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine, self.clock = engine, clock

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        answers = iter(self.engine.generate(requests))
        while True:
            with self.clock("generate"):
                answer = next(answers, None)
            if answer is None:
                return
            yield answer

    def load(self, weights: Weights) -> None:
        with self.clock("sync"):
            self.engine.load(weights)


class TimedReward:
    """A reward whose time is charged to ``reward``."""

    def __init__(self, reward: Reward, clock: Clock) -> None:
        self.reward, self.clock = reward, clock

    def __call__(self, episodes: Sequence[Episode]) -> Sequence[Score]:
        return self.submit(episodes)()

    def submit(self, episodes: Sequence[Episode]) -> Callable[[], Sequence[Score]]:
        with self.clock("reward"):
            scores = submitted(self.reward, episodes)

        def wait() -> Sequence[Score]:
            with self.clock("reward"):
                return scores()

        return wait


class TimedLearner:
    """A learner whose time is charged to ``train``."""

    def __init__(self, learner: Learner, clock: Clock) -> None:
        self.learner, self.clock = learner, clock

    def update(self, step: int, groups: Sequence[Group]) -> Update:
        with self.clock("train"):
            return self.learner.update(step, groups)

    def weights(self) -> Weights:
        return self.learner.weights()


class Observer(Recorder):
    """Writes the record and shows it, in the same breath. ``labels`` are a mixture's parts, told apart in
    what is measured."""

    def __init__(
        self,
        writer: RunWriter,
        view: Progress,
        clock: Clock,
        steps: int,
        completed: Callable[[int], None],
        labels: Sequence[str] = (),
    ) -> None:
        self.writer, self.view, self.clock, self.steps = writer, view, clock, steps
        self.completed, self.labels = completed, labels
        self.train_seconds = 0.0
        self.evaluations: list[Evaluation] = []
        self._groups: Sequence[Group] = ()

    @property
    def measured(self) -> set[int]:
        """The numbers of steps after which the held-out split was measured."""
        return {evaluation.step for evaluation in self.evaluations}

    def recall(self, reader: RunReader) -> None:
        """Take over what earlier attempts recorded, and show its evaluations."""
        self.train_seconds = sum(sum(row.values()) - row["step"] for row in reader.timings())
        self.evaluations = reader.evaluations()
        for evaluation in self.evaluations:
            self.view.evaluation(evaluation.step, measured(evaluation, self.labels))

    def groups(self, step: int, groups: Sequence[Group]) -> None:
        self._groups = groups
        with self.clock("record"):
            self.writer.groups(step, groups)

    def update(self, step: int, update: Update) -> None:
        with self.clock("record"):
            self.writer.update(step, update)
        with self.clock("hash"):
            self.completed(step)
        seconds = {k: v for k, v in self.clock.take().items() if k != "evaluate"}
        self.train_seconds += sum(seconds.values())
        self.writer.timing(step, seconds)
        self.view.step(StepReport.of(step + 1, self.steps, self._groups, update, seconds))

    def evaluation(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)
        self.writer.evaluation(evaluation)
        self.view.evaluation(evaluation.step, measured(evaluation, self.labels))
