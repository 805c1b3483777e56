"""What the reward pays for is what the oracle wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Update

WINDOW = 10
"""Steps at the start, and as many now, whose means are compared."""


@dataclass(kw_only=True)
class Oracle(Sentinel):
    """Watches the training reward against an oracle: a part of the reward that is measured on the same
    completions and not trained on.

    rise: the training reward must have risen by so much since the first ten steps before anything is said.
    kept: the share of that rise that an oracle must show; below it, if the gap is wider than three
    standard errors over steps, the rise is the reward's own.
    """

    name: ClassVar[str] = "oracle"
    level: ClassVar[Level] = "warn"

    rise: float = 0.1
    kept: float = 0.2
    steps: list[Mapping[str, float]] = field(init=False, default_factory=list)

    def blind(self) -> str | None:
        return None if self.setting.oracles else "no part of the reward is an oracle"

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        for label in self.setting.oracles:
            if (found := self._compared(label, update.metrics, groups)) is not None:
                return found
        return None

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        keys = ["reward", *(f"reward/{label}" for label in self.setting.oracles)]
        if self.setting.oracles and all(key in metrics for key in keys):
            self.steps.append({key: metrics[key] for key in keys})

    def _compared(self, label: str, metrics: Mapping[str, float], groups: Sequence[Group]) -> Finding | None:
        key = f"reward/{label}"
        if key not in metrics or "reward" not in metrics or len(self.steps) + 1 < 2 * WINDOW:
            return None
        then, now = self.steps[:WINDOW], [*self.steps[-WINDOW + 1 :], metrics]
        rise = _mean(now, "reward") - _mean(then, "reward")
        oracle = _mean(now, key) - _mean(then, key)
        gaps = [[row["reward"] - row[key] for row in rows] for rows in (then, now)]
        error = sum(stdev(gap) ** 2 / len(gap) for gap in gaps) ** 0.5
        if rise < self.rise or oracle >= self.kept * rise or rise - oracle <= 3 * error:
            return None
        return Finding(
            f"the reward has risen by {rise:.2f} while its oracle {label!r} has changed by {oracle:+.2f}",
            f"means of the first and the last {WINDOW} steps: reward {_mean(then, 'reward'):.3f} → "
            f"{_mean(now, 'reward'):.3f}, {label} {_mean(then, key):.3f} → {_mean(now, key):.3f}"
            + _examples(groups, label),
            "the policy has found something that the reward pays for and the oracle doesn't want",
            "read the completions; try the reward with covey reward test; stop at the last checkpoint from "
            "before they parted",
        )


def _mean(rows: Sequence[Mapping[str, float]], key: str) -> float:
    return fmean(row[key] for row in rows)


def _examples(groups: Sequence[Group], label: str) -> str:
    """Two completions that are paid most and please the oracle least."""
    pairs = [
        (s.value - part, e.text)
        for g in groups
        for e, s in zip(g.episodes, g.scores, strict=True)
        if s.value is not None and (part := s.parts.get(label)) is not None
    ]
    worst = sorted(pairs, key=lambda pair: -pair[0])[:2]
    return "".join(f"; paid {gap:g} above the oracle: {text[-80:]!r}" for gap, text in worst if gap > 0)
