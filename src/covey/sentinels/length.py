"""Completions don't run away."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Update

START = 3
"""Steps before anything is compared, and whose median is where truncation began."""

WINDOW = 10
"""Recent steps whose median a length is compared with: growth over a run is often what is wanted."""


@dataclass(kw_only=True)
class Length(Sentinel):
    """Watches how long completions are and how many are cut off.

    growth: a mean length above so many times the median of the last `WINDOW` steps is a runaway.
    truncated: a share of truncated completions above the start's by so much, and by three standard
    errors, too.
    """

    name: ClassVar[str] = "length"
    level: ClassVar[Level] = "warn"

    growth: float = 2.0
    truncated: float = 0.3
    lengths: deque[float] = field(init=False, default_factory=lambda: deque(maxlen=WINDOW))
    shares: list[float] = field(init=False, default_factory=list)

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        metrics = update.metrics
        if len(self.shares) < START or "length_mean" not in metrics:
            return None
        length, usual = metrics["length_mean"], statistics.median(self.lengths)
        share, start = metrics["truncated"], statistics.median(self.shares)
        error = (share * (1 - share) / max(metrics["episodes"], 1)) ** 0.5
        if length > self.growth * usual:
            what = f"completions have run away: a mean of {length:.0f} tokens, {usual:.0f} in recent steps"
        elif share > start + max(self.truncated, 3 * error):
            what = f"truncation has risen: {share:.0%} of completions are cut off, {start:.0%} at the start"
        else:
            return None
        return Finding(
            what,
            f"mean length {length:.1f} tokens after {', '.join(f'{v:.0f}' for v in self.lengths)}; truncated "
            f"{share:.1%} after {', '.join(f'{v:.1%}' for v in self.shares)} in the first steps; reward "
            f"{metrics.get('reward', float('nan')):.3g}",
            "a loss or a reward that favours long answers, wrong ones above all (1/length weights), or a "
            "policy that has unlearned to end",
            "read the longest completions; weight tokens alike (aggregation = token_mean), don't train on "
            "truncated answers as if they were wrong, or raise rollout.max_new_tokens if the growth is "
            "wanted",
        )

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        if "length_mean" in metrics:
            self.lengths.append(metrics["length_mean"])
            if len(self.shares) < START:
                self.shares.append(metrics["truncated"])
