"""The gold answer, word for word: 1.0 when the answer is the gold answer and nothing else, else 0.0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.rewards.answer import check_tag, final, plain
from covey.rewards.gold import refused
from covey.types import Episode, Problem, Score


@dataclass(frozen=True)
class Exact:
    """1.0 when the reply equals ``Problem.answer``, else 0.0.

    Blanks at the ends and how many stand between words don't matter, and letters count as equal that
    Unicode calls the same (its composed form). With ``tag`` only what stands in the reply's one
    ``<tag>…</tag>`` is compared. Without a gold answer the score is None; `check` refuses such a problem
    before a run.
    """

    checks_all: ClassVar[bool] = True

    tag: str | None = None
    ignore_case: bool = False

    def __post_init__(self) -> None:
        check_tag(self.tag)

    def check(self, problem: Problem) -> None:
        """Raise CoveyError when the problem has no gold answer."""
        if reason := self._score("", problem.answer).error:
            raise refused(problem, reason)

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [self._score(episode.text, episode.problem.answer) for episode in episodes]

    def _score(self, text: str, answer: str | None) -> Score:
        if answer is None or not plain(answer):
            return Score(None, error="the problem has no gold answer")
        given = final(text, self.tag)
        return Score(float(given is not None and self._form(given) == self._form(answer)))

    def _form(self, text: str) -> str:
        return plain(text).casefold() if self.ignore_case else plain(text)
