"""The evaluation statistics of golden-vector files, computed here from their definitions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist, mean, stdev


def clustered_error(per_problem: Sequence[float]) -> float:
    """The standard error of a mean over problems (2411.00640)."""
    return stdev(per_problem) / math.sqrt(len(per_problem))


def iid_error(values: Sequence[float]) -> float:
    """The standard error as if every answer were independent, which answers to one problem aren't."""
    return stdev(values) / math.sqrt(len(values))


def sampling_error(correct: Sequence[Sequence[float]]) -> float:
    """The part of the error that more samples of the same problems would remove."""
    variances = [mean(row) * (1 - mean(row)) / (len(row) - 1) for row in correct]
    return math.sqrt(sum(variances)) / len(correct)


def wilson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = successes / trials, z * z / trials
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def majority(votes: Sequence[str | None]) -> list[str]:
    """The answers with the most votes, in the order they were first given; None votes for nothing."""
    counts = Counter(vote for vote in votes if vote is not None)
    most = max(counts.values(), default=0)
    return [answer for answer, count in counts.items() if count == most]
