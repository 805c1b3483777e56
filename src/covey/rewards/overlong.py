"""Soft overlong punishment: what is nearly too long costs a little, what is too long costs 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.types import CoveyError, Episode, Score


@dataclass(frozen=True)
class Overlong:
    """0 up to ``max_tokens - cache_tokens``, then linearly down to -1 at ``max_tokens``, -1 beyond.

    DAPO, arXiv 2503.14476 eq. 13, there with 20,480 and 4,096. The length is in sampled tokens, the end
    token included. Added to another reward in `combine`.
    """

    shaping: ClassVar[bool] = True

    max_tokens: int
    cache_tokens: int

    def __post_init__(self) -> None:
        if not 0 < self.cache_tokens <= self.max_tokens:
            raise CoveyError(
                f"cache_tokens is above 0 and at most max_tokens = {self.max_tokens}, not {self.cache_tokens}"
            )

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [Score(self._punishment(episode.chosen)) for episode in episodes]

    def _punishment(self, length: int) -> float:
        free = self.max_tokens - self.cache_tokens
        return 0.0 if length <= free else max(-1.0, (free - length) / self.cache_tokens)
