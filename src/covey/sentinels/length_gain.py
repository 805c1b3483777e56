"""Longer completions are better ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Update

START = 3
WINDOW = 5
"""The first steps, and the last ones, whose median lengths are compared."""


@dataclass(kw_only=True)
class LengthGain(Sentinel):
    """Watches growth of the completions that brings nothing on held-out problems.

    growth: a mean length so many times the start's must have been paid for. gain: what the newest held-out
    score (sampled) must have over the first one by then.
    """

    name: ClassVar[str] = "length_gain"
    level: ClassVar[Level] = "warn"

    growth: float = 1.5
    gain: float = 0.01
    first: list[float] = field(init=False, default_factory=list)
    last: deque[float] = field(init=False, default_factory=lambda: deque(maxlen=WINDOW - 1))

    def blind(self) -> str | None:
        return None if self.setting.heldout else "held-out problems aren't measured between start and end"

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        length = update.metrics.get("length_mean")
        if length is None or len(self.last) < WINDOW - 1 or self.setting.heldout is None:
            return None
        start, now = median(self.first), median([*self.last, length])
        if now < self.growth * start:
            return None
        measured = self.setting.heldout()
        if len(measured) < 2:
            return None
        (_, before), (when, after) = measured[0], measured[-1]
        if after >= before + self.gain:
            return None
        longest = max((e for g in groups for e in g.episodes), key=lambda e: e.chosen, default=None)
        return Finding(
            f"completions have grown from {start:.0f} to {now:.0f} tokens without a held-out gain",
            f"held-out score {before:.3f} before training, {after:.3f} after {when} steps; training reward "
            f"{update.metrics.get('reward', float('nan')):.3g}"
            + (f"; the longest one ends {longest.text[-80:]!r}" if longest else ""),
            "length itself pays: a bonus for form or effort, a judge that likes much text, or a loss that "
            "divides by the length",
            "read the longest completions; weight tokens alike (aggregation = token_mean), or add the "
            "reward overlong",
        )

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        if "length_mean" in metrics:
            if len(self.first) < START:
                self.first.append(metrics["length_mean"])
            self.last.append(metrics["length_mean"])
