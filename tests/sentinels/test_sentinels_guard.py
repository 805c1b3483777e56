"""Which sentinels are on, what is told once and what stops a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from covey.config import parse
from covey.protocols import Watch
from covey.sentinels import SENTINELS, Finding, Guard, Level, Report, Sentinel, Setting, Stopped, choose
from covey.sentinels.guard import QUIET
from covey.types import CoveyError, Group, Update, Weights

FINDING = Finding("it broke", "the figures", "the cause", "the remedy")


@dataclass(kw_only=True)
class Fake(Sentinel):
    """Finds what it is told to at the moments it is told to, and keeps what it is shown."""

    name: ClassVar[str] = "fake"
    level: ClassVar[Level] = "stop"

    moments: Sequence[str] = ()
    finding: Finding = FINDING
    seen: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Its fields are no thresholds."""

    def sampled(self, step: int, groups: Sequence[Group]) -> Finding | None:
        return self.at("sampled", step)

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        return self.at("learned", step)

    def loaded(self, step: int, weights: Weights) -> Finding | None:
        return self.at("loaded", step)

    def at(self, moment: str, step: int) -> Finding | None:
        self.seen.append((moment, step))
        return self.finding if moment in self.moments else None

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        self.seen.append(("remember", step, dict(metrics)))


def guard(*posts: tuple[Sentinel, Level]) -> tuple[Guard, list[Report]]:
    told: list[Report] = []
    return Guard(posts, told.append), told


def one_step(watch: Guard, step: int) -> None:
    watch.sampled(step, ())
    watch.learned(step, (), Update(True, {"loss": 0.5}))
    watch.loaded(step + 1, Weights(step + 1, None))


def test_every_sentinel_is_asked_at_every_moment_and_remembers_after_it() -> None:
    fake = Fake(setting=Setting())
    watch, told = guard((fake, "stop"))
    one_step(watch, 4)
    assert fake.seen == [("sampled", 4), ("learned", 4), ("remember", 4, {"loss": 0.5}), ("loaded", 5)]
    assert told == []
    assert isinstance(watch, Watch)


@pytest.mark.parametrize("moment", ["sampled", "learned", "loaded"])
def test_a_stop_is_told_and_then_raised(moment: str) -> None:
    watch, told = guard((Fake(setting=Setting(), moments=(moment,)), "stop"))
    with pytest.raises(Stopped) as stopped:
        one_step(watch, 4)
    assert [(r.sentinel, r.level, r.step) for r in told] == [("fake", "stop", 4)]
    lines = str(stopped.value).splitlines()
    assert lines[0] == "stopped in step 5 (rollouts/000004.jsonl) by the sentinel 'fake': it broke"
    assert [line.strip().split("  ")[0] for line in lines[1:]] == [
        "evidence",
        "likely cause",
        "what to do",
        "more",
    ]
    for part in ("the figures", "the cause", "the remedy", "docs/sentinels/fake.md"):
        assert part in str(stopped.value)


def test_a_warning_stops_nothing_and_keeps_silent_for_a_while() -> None:
    watch, told = guard((Fake(setting=Setting(), moments=("learned",)), "warn"))
    for step in range(2 * QUIET + 1):
        one_step(watch, step)
    assert [r.step for r in told] == [0, QUIET, 2 * QUIET]
    assert "\n" not in told[0].line
    for part in ("fake", "it broke", "the figures", "the cause", "the remedy"):
        assert part in told[0].line


def test_a_finding_may_be_milder_than_its_sentinel_but_never_harder() -> None:
    mild = Finding("it may break", "", "", "", level="warn")
    watch, told = guard((Fake(setting=Setting(), moments=("sampled",), finding=mild), "stop"))
    one_step(watch, 0)
    assert [r.level for r in told] == ["warn"]


def test_of_two_that_stop_the_first_is_the_diagnosis_and_the_other_is_named() -> None:
    second = Finding("the symptom", "", "", "")
    watch, told = guard(
        (Fake(setting=Setting(), moments=("sampled",)), "stop"),
        (Fake(setting=Setting(), moments=("sampled",), finding=second), "stop"),
        (Fake(setting=Setting(), moments=("sampled",)), "warn"),
    )
    with pytest.raises(Stopped, match="it broke") as stopped:
        watch.sampled(0, ())
    assert "also          fake: the symptom" in str(stopped.value)
    assert [r.level for r in told] == ["stop", "stop", "warn"]  # all are on record before the run ends


def test_recorded_steps_are_remembered_but_not_judged() -> None:
    fake = Fake(setting=Setting(), moments=("sampled", "learned", "loaded"))
    watch, told = guard((fake, "stop"))
    watch.recall(0, {"loss": 1.0})
    assert fake.seen == [("remember", 0, {"loss": 1.0})]
    assert told == []


def test_every_sentinel_is_on_with_a_level_of_its_own() -> None:
    chosen = choose({})
    assert list(chosen) == list(SENTINELS)
    assert {name: c.level for name, c in chosen.items()} == {n: s.level for n, s in SENTINELS.items()}
    warned = {name for name, c in chosen.items() if c.level == "warn"}
    # training may rightly go on
    assert warned == {
        "constant_reward", "entropy", "length", "listing", "duplicates", "oracle", "length_gain",
    }  # fmt: skip


@pytest.mark.parametrize("name", SENTINELS)
@pytest.mark.parametrize("level", ["stop", "warn", "off"])
def test_each_can_be_set_to_stop_warn_or_off(name: str, level: str) -> None:
    recipe = parse({"model": {"name": "x/y"}, "task": "arithmetic", "sentinels": {name: level}})
    chosen = choose({n: s.model_dump() for n, s in recipe.sentinels.items()})
    if level == "off":
        assert name not in chosen
        assert len(chosen) == len(SENTINELS) - 1
    else:
        assert chosen[name].level == level


def test_thresholds_are_set_beside_the_level_or_without_one() -> None:
    chosen = choose({"entropy": {"level": "stop", "floor": 0.1}, "length": {"level": None, "growth": 3}})
    assert chosen["entropy"].describe() == {"level": "stop", "floor": 0.1, "rise": 3.0}
    assert chosen["length"].describe() == {"level": "warn", "growth": 3, "truncated": 0.3}
    assert chosen["entropy"].post(Setting()).thresholds() == {"floor": 0.1, "rise": 3.0}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"entropi": {"level": "off"}}, r"no sentinel 'entropi'; did you mean 'entropy'\?"),
        ({"xyz": {}}, r"no sentinel 'xyz'; there are: weights, template"),
        ({"entropy": {"flor": 0.1}}, r"'entropy' has no key 'flor'; did you mean 'floor'\?"),
        ({"entropy": {"zzz": 0.1}}, r"has no key 'zzz'; there are: floor, rise"),
        ({"weights": {"floor": 1}}, r"'weights' has no key 'floor'; it has none"),
        ({"entropy": {"floor": "low"}}, r"entropy: floor must be a number that isn't negative, not 'low'"),
        ({"entropy": {"floor": True}}, r"floor must be a number"),
        ({"unscored": {"budget": -0.1}}, r"budget must be a number that isn't negative, not -0\.1"),
        ({"entropy": {"entropies": []}}, r"has no key 'entropies'"),  # its memory is no threshold
        ({"entropy": {"setting": 1}}, r"has no key 'setting'"),
    ],
)
def test_what_there_is_not_is_refused_with_what_was_meant(
    wanted: Mapping[str, Mapping[str, Any]], message: str
) -> None:
    with pytest.raises(CoveyError, match=message):
        choose(wanted)


def test_a_level_that_there_is_not_is_refused_when_the_recipe_is_read() -> None:
    with pytest.raises(CoveyError, match=r"sentinels\.entropy\.level.*'stop', 'warn' or 'off'.*'loud'"):
        parse({"model": {"name": "x/y"}, "task": "arithmetic", "sentinels": {"entropy": "loud"}})


def test_the_command_line_sets_levels_and_thresholds() -> None:
    values = {"model": {"name": "x/y"}, "task": "arithmetic", "sentinels": {"entropy": "stop"}}
    recipe = parse(values, ["--sentinels.entropy.floor", "0.5", "--sentinels.end-token", "off"])
    assert {name: s.model_dump() for name, s in recipe.sentinels.items()} == {
        "entropy": {"level": "stop", "floor": 0.5},
        "end_token": {"level": "off"},
    }
