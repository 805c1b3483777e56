"""What could not be graded stays the exception."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group


@dataclass(kw_only=True)
class Unscored(Sentinel):
    """Holds the share of a step's completions without a score against a ``budget``."""

    name: ClassVar[str] = "unscored"
    level: ClassVar[Level] = "stop"

    budget: float = 0.2

    def sampled(self, step: int, groups: Sequence[Group]) -> Finding | None:
        scores = [s for g in groups for s in g.scores]
        errors = Counter(s.error or "no reason given" for s in scores if s.value is None)
        missing = errors.total()
        if missing <= self.budget * len(scores):
            return None
        told = "; ".join(f"{count} × {error[:160]!r}" for error, count in errors.most_common(3))
        return Finding(
            f"{missing} of {len(scores)} completions have no score, more than the budget of "
            f"{self.budget:.0%}",
            told,
            "the grader fails, hangs until its time limit, or can't be reached; what is left to train on is "
            "a sample biased towards answers it can grade",
            "run the grader by hand on a recorded completion; if it rightly has no verdict on so many, "
            "raise [sentinels] unscored = { budget = … }",
        )
