"""A pattern: 1.0 when the reply matches it and, where it captures an answer, captures the gold one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.rewards.answer import plain
from covey.rewards.gold import refused
from covey.rewards.pool import Limits
from covey.types import CoveyError, Episode, Problem, Score

TAIL_CHARACTERS = 4096


@dataclass(frozen=True)
class Regex:
    r"""1.0 when the reply matches ``pattern`` (Python's ``re``), else 0.0.

    A pattern with a group named ``answer``, as in ``#### (?P<answer>-?\d+)``, is looked for in the reply's
    last 4,096 characters; what it captures must be ``Problem.answer``, blanks aside, and the same wherever
    it matches: a reply that gives two answers has given none. Without a gold answer the score is None. A
    pattern without that group must match the reply as a whole, blanks at its ends aside.

    Python's ``re`` tries every way to match: a pattern that repeats what is repeated, such as
    ``(a+)+b``, can take for ever on a reply that doesn't match. So it runs in processes that are killed, and
    such a reply isn't scored.

    Raises:
        CoveyError: the pattern is none.
    """

    pooled: ClassVar[bool] = True
    each: ClassVar[bool] = True
    checks_all: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(seconds=2.0, memory_mb=512)

    pattern: str
    ignore_case: bool = False

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise CoveyError(f"the pattern {self.pattern!r} is no regular expression: {error}") from error

    def check(self, problem: Problem) -> None:
        """Raise CoveyError when the pattern captures an answer and the problem has none."""
        if reason := self._score("", problem.answer).error:
            raise refused(problem, reason)

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [self._score(episode.text, episode.problem.answer) for episode in episodes]

    def _score(self, text: str, answer: str | None) -> Score:
        pattern = re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0)
        if "answer" not in pattern.groupindex:
            return Score(float(len(text) <= TAIL_CHARACTERS and bool(pattern.fullmatch(text.strip()))))
        if answer is None:
            return Score(None, error="the problem has no gold answer")
        given = {plain(match["answer"] or "") for match in pattern.finditer(text[-TAIL_CHARACTERS:])}
        return Score(float(given == {plain(answer)}))
