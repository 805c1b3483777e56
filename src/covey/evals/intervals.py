"""Means with confidence intervals, clustered by problem.

Several completions of one problem are not independent: a problem is easy or hard for all of them. So a
problem counts once, by the mean of its values, and the standard error is taken over problems (Miller
2024, arXiv 2411.00640). With P problems, means m and mean p: SE² = Σ(m-p)² / (P(P-1)).

For values in [0, 1] that normal interval is wrong where it matters most: it leaves [0, 1] near the ends
and has no width when all answers are right. There, Wilson's interval and its paired counterpart take its
place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from statistics import NormalDist, fmean

from covey.types import CoveyError, Interval


def clustered(values_per_problem: Sequence[Sequence[float]], level: float = 0.95) -> Interval:
    """The mean over problems of each problem's mean, with its confidence interval.

    When all values lie in [0, 1] it is Wilson's interval with the number of independent answers n that
    the spread over problems implies: p(1-p)/n = Σ(m-p)²/P². One right-or-wrong answer a problem gives
    n = P, Wilson's own; further answers raise n as far as those to one problem are independent, at most
    to the number of values. Where the problems' means don't differ at all, n = P.

    Otherwise it is p ± z·SE; without bounds when there is one problem.

    Args:
        values_per_problem: a problem's scores, at least one each; what isn't scored is left out before.

    Raises:
        ValueError: there is no problem, or a problem has no value.
    """
    means = [fmean(values) for values in _nonempty(values_per_problem)]
    p = fmean(means)
    everything = list(chain.from_iterable(values_per_problem))
    if not _in_unit(everything):
        return _normal(p, _variance(means), level)
    variance = sum((mean - p) ** 2 for mean in means) / len(means) ** 2
    n = min(p * (1 - p) / variance, len(everything)) if variance > 0 else len(means)
    return wilson(p, n, level)


def wilson(p: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share ``p`` of ``n`` independent answers (Wilson 1927)."""
    z2 = _z(level) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def paired(
    before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]], level: float = 0.95
) -> Interval:
    """The mean difference ``after - before`` over the same problems, with its confidence interval.

    The difference d is taken problem by problem, so that what makes problems differ falls out (Miller
    2024): mean(d) ± z·SE(d), without bounds when there is one problem.

    When all values lie in [0, 1], the interval is that of Bonett and Price (2012): two problems are
    added, one that got wholly better and one that got wholly worse. It keeps a width when all problems
    move alike, and two problems that both improved prove nothing.

    Args:
        before: problem id → scores, at least one each.
        after: the same for the same problems.

    Raises:
        CoveyError: the problems are not the same.
        ValueError: there is no problem, or a problem has no value.
    """
    same_problems(before.keys(), after.keys())
    pairs = list(zip(_nonempty(before.values()), _nonempty(after[key] for key in before), strict=True))
    differences = [fmean(new) - fmean(old) for old, new in pairs]
    mean = fmean(differences)
    if not _in_unit(chain.from_iterable(chain.from_iterable(pairs))):
        return _normal(mean, _variance(differences), level)
    adjusted = [*differences, 1.0, -1.0]
    centre = fmean(adjusted)
    half = _z(level) * math.sqrt(sum((d - centre) ** 2 for d in adjusted)) / len(adjusted)
    return Interval(mean, max(-1.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)))


def same_problems(before: AbstractSet[str], after: AbstractSet[str]) -> None:
    """Raise CoveyError unless the two sets of problem ids are the same."""
    if before != after:
        raise CoveyError(
            f"a paired comparison needs the same problems: {len(before - after)} are only before, "
            f"{len(after - before)} only after, such as {min(before ^ after)!r}"
        )


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate that at least one of k completions is right, from c right ones of n.

    1 - C(n-c, k) / C(n, k): Chen et al. 2021, arXiv 2107.03374, equation 1.

    Raises:
        ValueError: not 0 ≤ c ≤ n or not 1 ≤ k ≤ n.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 ≤ c ≤ n and 1 ≤ k ≤ n, not n={n}, c={c}, k={k}")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def _normal(mean: float, variance: float, level: float) -> Interval:
    half = _z(level) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half)


def _variance(means: Sequence[float]) -> float:
    """The squared standard error of the mean; infinite for one value, which says nothing of the spread."""
    count, centre = len(means), fmean(means)
    return sum((mean - centre) ** 2 for mean in means) / (count * (count - 1)) if count > 1 else math.inf


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _in_unit(values: Iterable[float]) -> bool:
    return all(0 <= value <= 1 for value in values)


def _nonempty(values_per_problem: Iterable[Sequence[float]]) -> list[Sequence[float]]:
    values = list(values_per_problem)
    if not values or not all(len(items) for items in values):
        raise ValueError("an interval needs at least one problem, and at least one value for each")
    return values
