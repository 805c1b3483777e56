"""Which groups can't teach anything, and why."""

from __future__ import annotations

from collections.abc import Sequence

from covey.types import Ending, Episode, Fault, Score

UNSCORED = "unscored"
ZERO_VARIANCE = "zero variance"


def ungraded(episode: Episode) -> Score:
    """The score of an episode that failed: none, and why."""
    fault = Fault("environment") if episode.ended is Ending.ENVIRONMENT else None
    return Score(None, error=episode.failure, fault=fault)


def exclusion(scores: Sequence[Score]) -> str | None:
    """Why a group is not trained on, or None when it is.

    ``unscored``: fewer than two episodes have a score, so there is nothing to compare.
    ``zero variance``: all scores are equal, so every advantage would be zero (DAPO's dynamic
    sampling, arXiv 2503.14476 eq. 11).
    """
    values = [s.value for s in scores if s.value is not None]
    if len(values) < 2:
        return UNSCORED
    return ZERO_VARIANCE if max(values) == min(values) else None
