"""Answers differ in their rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Update


@dataclass(kw_only=True)
class ConstantReward(Sentinel):
    """Counts completions since two last had different rewards. ``completions`` in a row with one
    reward, step by step, teach nothing: every advantage is zero."""

    name: ClassVar[str] = "constant_reward"
    level: ClassVar[Level] = "warn"

    completions: int = 512
    alike: int = field(init=False, default=0)
    reward: float | None = field(init=False, default=None)

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        count = self._alike(update.metrics)
        if "reward" not in update.metrics or not count or count < self.completions:
            return None
        shown = "".join(
            f"; to problem {g.problem.id!r} with the answer {g.problem.answer!r}: {g.episodes[0].text[:80]!r}"
            for g in groups[:2]
            if g.episodes
        )
        return Finding(
            f"the last {count} completions all have the reward {update.metrics['reward']:g}: nothing is "
            "learned",
            f"{len(groups)} groups in this step, none with a difference{shown}",
            "the grader doesn't recognise any answer (its format, truncation before the answer), recognises "
            "all of them, or the task is far too hard or too easy for this model",
            "read a few completions with their gold answers; loosen the grader's format, raise "
            "rollout.max_new_tokens, or choose problems the model solves some of the time",
        )

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        self.alike = self._alike(metrics)
        self.reward = metrics.get("reward", self.reward)

    def _alike(self, metrics: Mapping[str, float]) -> int:
        if "reward" not in metrics:
            return self.alike  # nothing was scored: no news
        if metrics.get("reward_std") != 0:
            return 0
        scored = int(metrics.get("episodes", 0) - metrics.get("unscored", 0))
        return scored + (self.alike if metrics["reward"] == self.reward else 0)
