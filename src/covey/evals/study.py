"""Several runs of several variants: means and differences, clustered by seed and by problem."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from covey.evals.intervals import clustered, paired
from covey.types import CoveyError, Interval

Cells = Mapping[tuple[int, str], Sequence[float]]
"""(seed, problem id) → the scores of one run's completions of one held-out problem."""

STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantile of Student's t with 1 to 30 degrees of freedom."""


ROUNDING = 1e-9
"""Scores this close are the same."""


def level(cells: Cells) -> Interval:
    """The mean score with its 95 % interval, over seeds and problems alike (`two_way`), and no narrower
    than over the problems alone (`clustered`), which has a width where all scores are equal."""
    means = {key: fmean(values) for key, values in cells.items()}
    return _wider(two_way(means), clustered(list(_by_problem(cells).values())), 0.0 if _unit(cells) else None)


def change(before: Cells, after: Cells) -> Interval:
    """The mean difference, paired by seed and problem, with its 95 % interval (`two_way`); where all
    pairs differ alike, that of `paired`, which has a width then. Raises CoveyError when the pairs aren't
    the same."""
    if before.keys() != after.keys():
        raise CoveyError("a paired comparison needs the same seeds and held-out problems on both sides")
    differences = {key: fmean(after[key]) - fmean(before[key]) for key in before}
    over_both, lowest = two_way(differences), -1.0 if _unit(before) and _unit(after) else None
    alike = max(differences.values()) - min(differences.values()) < ROUNDING
    over_problems = paired(_by_problem(before), _by_problem(after)) if alike else over_both
    return _wider(over_both, over_problems, lowest)


def two_way(cells: Mapping[tuple[int, str], float]) -> Interval:
    """A mean whose values share seeds and problems, with its 95 % interval.

    Variance: that of sums over seeds plus that of sums over problems less that of single values, and no
    less than either (Cameron, Gelbach, Miller 2011); Student's t with one degree of freedom less than the
    smaller number of clusters. A single seed (or problem) says nothing of its spread, and is left out.
    """
    mean = fmean(cells.values())
    seeds, problems = (sorted({key[side] for key in cells}) for side in (0, 1))
    off = {key: value - mean for key, value in cells.items()}
    one = [sum(off[k] for k in off if k[0] == seed) for seed in seeds]
    other = [sum(off[k] for k in off if k[1] == problem) for problem in problems]
    by = [_variance(sums, len(cells)) for sums in (one, other) if len(sums) > 1]
    if not by:
        return Interval(mean, -math.inf, math.inf)
    both = sum(by) - _variance(list(off.values()), len(cells)) if len(by) > 1 else 0.0
    freedom = min(len(sums) for sums in (one, other) if len(sums) > 1) - 1
    quantile = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96
    half = quantile * math.sqrt(max(*by, both, 0.0))
    return Interval(mean, mean - half, mean + half)


def _variance(sums: Sequence[float], count: int) -> float:
    return len(sums) / (len(sums) - 1) * sum(s * s for s in sums) / count**2


def _by_problem(cells: Cells) -> dict[str, list[float]]:
    pooled: dict[str, list[float]] = {}
    for (_, problem), values in cells.items():
        pooled.setdefault(problem, []).extend(values)
    return pooled


def _unit(cells: Cells) -> bool:
    return all(0 <= value <= 1 for values in cells.values() for value in values)


def _wider(one: Interval, other: Interval, lowest: float | None) -> Interval:
    """What both cover; ``lowest`` is the smallest possible value where the largest is 1."""
    low, high = min(one.low, other.low), max(one.high, other.high)
    return Interval(one.mean, *((low, high) if lowest is None else (max(low, lowest), min(high, 1.0))))
