"""What training tells its viewers, and what a viewer must answer to."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeAlias

from covey.types import Group, Update

Shown: TypeAlias = tuple[str, str, float]
"""A prompt, a completion and its score."""

RECENT = 20
"""How many steps the time left is reckoned from."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """One completed optimizer step: number ``step`` of ``steps``, counted from 1.

    ``metrics`` are the update's. ``seconds`` are its phases, ``generate``, ``reward``, ``train``
    and whatever else takes time; together they are the step's duration. ``excluded`` counts the step's
    groups that were not trained on, by reason. ``good`` and ``bad`` are the completions with the
    highest and the lowest score; ``bad`` is None when all scores are equal.
    """

    step: int
    steps: int
    metrics: Mapping[str, float]
    seconds: Mapping[str, float] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    good: Shown | None = None
    bad: Shown | None = None

    @classmethod
    def of(
        cls, step: int, steps: int, groups: Sequence[Group], update: Update, seconds: Mapping[str, float]
    ) -> Self:
        """The report of a step, from its groups and its update."""
        scored = [
            (_prompt(group), episode.text, score.value)
            for group in groups
            for episode, score in zip(group.episodes, group.scores, strict=True)
            if score.value is not None
        ]
        good = max(scored, key=lambda shown: shown[2], default=None)
        bad = min(scored, key=lambda shown: shown[2], default=None)
        excluded = Counter(group.excluded for group in groups if group.excluded is not None)
        if good is None or bad is None or good[2] == bad[2]:
            bad = None
        return cls(step, steps, update.metrics, seconds, excluded, good, bad)

    @property
    def duration(self) -> float:
        """Seconds the whole step took."""
        return sum(self.seconds.values())

    @property
    def speed(self) -> float | None:
        """Tokens sampled a second over the whole step, training included; None when unknown."""
        tokens = self.metrics.get("tokens_sampled")
        return tokens / self.duration if tokens is not None and self.duration > 0 else None

    def share_excluded(self) -> dict[str, float]:
        """The share of the step's groups left out, by reason, most frequent first."""
        groups = max(self.metrics.get("groups", 0.0), sum(self.excluded.values()), 1.0)
        ordered = sorted(self.excluded.items(), key=lambda item: -item[1])
        return {reason: count / groups for reason, count in ordered}


class Progress:
    """A viewer. Training calls these in the order things happen; a viewer shows what it cares for.

    This one shows nothing. Use it as a context manager, so that a terminal is left as it was found.

    An evaluation's ``summary`` has ``greedy`` and ``sampled``, each a mapping with ``mean``, ``low``
    and ``high``, or None where nothing was scored. The final one may have ``run``, ``steps``,
    ``train_seconds``, ``before`` and ``after`` (summaries of evaluations) and ``difference`` (the
    paired intervals, by draw). ``unscored`` and ``completions`` are counts, and ``parts`` has the same again
    of each part of a mixture, by its label.
    """

    def start(self, plan: Mapping[str, Any]) -> None:
        """The run begins. ``plan`` is what to show of it by name: ``run``, ``model``, ``task``, …"""

    def step(self, report: StepReport) -> None:
        """A step is complete."""

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None:
        """The held-out split was measured after ``step`` steps."""

    def message(self, text: str, *, error: bool = False) -> None:
        """Something the user should know, in one line; ``error`` when it needs him to act."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run is complete."""

    def close(self) -> None:
        """Nothing more will come."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True)
class History:
    """What a viewer remembers of a run."""

    plan: Mapping[str, Any] = field(default_factory=dict)
    last: StepReport | None = None
    rewards: list[tuple[int, float]] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    evaluations: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)

    def add(self, report: StepReport) -> None:
        reward = report.metrics.get("reward")
        if reward is not None and math.isfinite(reward):
            self.rewards.append((report.step, reward))
        self.durations.append(report.duration)
        self.last = report

    def left(self) -> float | None:
        """Seconds left, from the median of recent steps; None before the first."""
        if self.last is None or not any(self.durations):
            return None
        return statistics.median(self.durations[-RECENT:]) * (self.last.steps - self.last.step)


def _prompt(group: Group) -> str:
    """The last message before the reply."""
    return str(group.problem.messages[-1].get("content", "")) if group.problem.messages else ""
