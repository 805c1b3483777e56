"""Whether a conversation came to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from covey.types import Ending, Episode, Score


@dataclass(frozen=True)
class Finished:
    """1.0 when the environment ended the conversation, as a game does that is won, and 0.0 when turns or
    tokens ran out, or a reply was cut. An episode without an environment isn't scored."""

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [
            Score(None, error="the task has no environment: nothing says whether it finished")
            if episode.ended is None
            else Score(float(episode.ended is Ending.DONE))
            for episode in episodes
        ]
