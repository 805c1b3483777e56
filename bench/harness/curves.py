"""Learning curves: held-out accuracy after so many steps, and when it first stays above a level."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

Z = 1.96  # 95 %


def stays_above(accuracy: Mapping[int, float], level: float) -> int | None:
    """The first measured number of steps from which on every measurement is at least ``level``."""
    since: int | None = None
    for step in sorted(accuracy):
        if accuracy[step] < level:
            since = None
        elif since is None:
            since = step
    return since


def seconds_until(step: int, seconds: Sequence[float]) -> float:
    """The time that the first ``step`` steps took."""
    return list(itertools.accumulate(seconds, initial=0.0))[step]


def wilson(right: Sequence[float]) -> dict[str, float]:
    """The share of right answers with its 95 % interval (Wilson 1927)."""
    n, p = len(right), sum(right) / len(right)
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return {"mean": round(p, 4), "low": round(max(0.0, centre - half), 4), "high": round(centre + half, 4)}


def overlap(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether two intervals have a value in common."""
    return a["low"] <= b["high"] and b["low"] <= a["high"]
