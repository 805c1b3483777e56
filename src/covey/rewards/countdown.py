"""Numbers to a target: an expression is worked out exactly, and is right when it keeps the rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from covey.rewards.answer import check_tag, final
from covey.types import CoveyError, Episode, Problem, Score

MAX_CHARACTERS = 500
MAX_DIGITS = 12
MAX_DEPTH = 50

_TOKEN = re.compile(r"\s*(?:([0-9]+)|([-+*/()×÷−]))")
_SIGNS = str.maketrans("×÷−", "*/-")


@dataclass(frozen=True)
class Countdown:
    """1.0 when the expression comes to the problem's ``target`` with its ``numbers``, else 0.0.

    The expression is what stands in the reply's one ``<answer>…</answer>``, or with ``tag`` None the whole
    reply; ``= target`` may follow it. It has whole numbers, ``+ - * /`` (``× ÷ −`` too) and parentheses, and
    nothing else; it is worked out in fractions, so ``/`` needn't come out even. Each number may be used as
    often as it is given, and must be used so often when ``use_all`` says it. Dividing by zero is wrong.
    """

    checks_all: ClassVar[bool] = True

    tag: str | None = "answer"
    use_all: bool = False

    def __post_init__(self) -> None:
        check_tag(self.tag)

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [self._score(episode.text, episode.problem) for episode in episodes]

    def check(self, problem: Problem) -> None:
        """Raise CoveyError for a problem without numbers and a target."""
        if _given(problem) is None:
            raise CoveyError(
                f"[reward] countdown reads the columns numbers (a list) and target, whole numbers both; "
                f"problem {problem.id!r} has {', '.join(problem.columns) or 'none'}"
            )

    def _score(self, text: str, problem: Problem) -> Score:
        given = _given(problem)
        if given is None:
            return Score(None, error="the problem has no columns numbers and target of whole numbers")
        numbers, target = given
        answer = final(text, self.tag)
        if answer is None:
            return Score(0.0)
        expression, equals, claimed = answer.partition("=")
        if equals and claimed.strip() != str(target):
            return Score(0.0)
        worked = evaluate(expression)
        if worked is None or worked[0] != target:
            return Score(0.0)
        used, allowed = Counter(worked[1]), Counter(numbers)
        return Score(float(used == allowed if self.use_all else used <= allowed))


def evaluate(text: str) -> tuple[Fraction, list[int]] | None:
    """The value of an arithmetic expression and the numbers in it, in order; None when it is none.

    Time is linear in the text, whose length, depth and numbers are bounded.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        reader = _Reader(_tokens(text))
        value = reader.sum(0)
        return (value, reader.numbers) if reader.at == len(reader.tokens) else None
    except (ValueError, ZeroDivisionError, IndexError):
        return None


def _tokens(text: str) -> list[str]:
    text, at, tokens = text.rstrip(), 0, list[str]()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(match[1] or "") > MAX_DIGITS:
            raise ValueError(f"no arithmetic at {at}")
        tokens.append(match[1] or match[2].translate(_SIGNS))
        at = match.end()
    return tokens


class _Reader:
    """Sums of products of factors, left to right."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at, self.numbers = tokens, 0, list[int]()

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while self._next("+-"):
            value = value + self.product(depth) if self._last() == "+" else value - self.product(depth)
        return value

    def product(self, depth: int) -> Fraction:
        value = self.factor(depth)
        while self._next("*/"):
            value = value * self.factor(depth) if self._last() == "*" else value / self.factor(depth)
        return value

    def factor(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        if self._next("-"):
            return -self.factor(depth + 1)
        if self._next("("):
            value = self.sum(depth + 1)
            if not self._next(")"):
                raise ValueError("not closed")
            return value
        number = int(self.tokens[self.at])  # an operator here is a ValueError, the end an IndexError
        self.at += 1
        self.numbers.append(number)
        return Fraction(number)

    def _next(self, wanted: str) -> bool:
        found = self.at < len(self.tokens) and self.tokens[self.at] in wanted
        self.at += found
        return found

    def _last(self) -> str:
        return self.tokens[self.at - 1]


def _given(problem: Problem) -> tuple[list[int], int] | None:
    numbers, target = problem.columns.get("numbers"), problem.columns.get("target")
    if not isinstance(numbers, list | tuple) or type(target) is not int:
        return None
    return (list(numbers), target) if all(type(number) is int for number in numbers) else None
