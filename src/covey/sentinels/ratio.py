"""The first optimizer step on fresh samples starts where they were sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Update


@dataclass(kw_only=True)
class Ratio(Sentinel):
    """Holds the policy ratio against 1 at the first optimizer step on what the policy itself sampled.
    Where a rollout has several, the learner tells the first one's figures apart, as ``first_…``.

    tolerance: of every token, and no token clipped, where the ratio is to the learner's own log-probs.
    mean_tolerance: of the mean, where it is to the sampler's; single tokens are then `mismatch`'s.
    """

    name: ClassVar[str] = "ratio"
    level: ClassVar[Level] = "stop"

    tolerance: float = 1e-3
    mean_tolerance: float = 0.02

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        metrics = update.metrics
        if "ratio_mean" not in metrics:
            return None
        first = "first_" if "first_ratio_mean" in metrics else ""
        low, mean, high = (metrics[f"{first}ratio_{k}"] for k in ("min", "mean", "max"))
        clipped = {k: v for k, v in metrics.items() if k.startswith(f"{first}clip_") and v}
        if self.setting.anchor == "sampler":
            fine = abs(mean - 1) <= self.mean_tolerance
        else:
            fine = max(abs(low - 1), abs(high - 1)) <= self.tolerance and not clipped
        # comparisons with NaN are false, so it isn't fine; but non-finite values have their own sentinel
        if fine or mean != mean:
            return None
        shown = "".join(f", {k} {v:.2%}" for k, v in clipped.items())
        return Finding(
            "the policy ratio is not 1 at the first optimizer step on fresh samples",
            f"mean {mean:.6f}, from {low:.6f} to {high:.6f}{shown}; the ratio is to the "
            f"{self.setting.anchor}'s log-probs",
            "old log-probs of another policy or distribution: stale weights, another temperature, dropout "
            "left on, or tokens shifted by one",
            "compare logp with sampler_logp in this step's rollout file, token by token: a constant factor "
            "is a temperature, noise is dropout or a number format",
        )
