r"""Mathematics, through `math-verify <https://github.com/huggingface/Math-Verify>`_: 1.0 when the reply's
answer equals the gold answer, else 0.0.

The answer is what math-verify extracts from the reply's last 4,096 characters: the last ``\boxed{…}``, else
the last expression between math delimiters, else the last number. Several boxed ones are a set, which equals
none of its members. A gold answer without delimiters is read as if it were boxed. Equality isn't symmetric
in math-verify: the gold answer goes first.

A reply can be made to take for ever (``9^{9^{9^9}}``, ``(10^{10})!``). math-verify's own limit is an alarm,
which only the main thread can have and which an operation on large integers doesn't hear; so it is off here,
and this reward runs in processes that are killed. What nests deeper than any answer does isn't read at all.
"""

from __future__ import annotations

import importlib.util
import logging
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar

from covey.rewards.functions import Failure, attempt
from covey.rewards.pool import Limits
from covey.types import CoveyError, Episode, Problem, Score

READ_CHARACTERS = 4096
DEEPEST = 16  # brackets within brackets; the parser takes seconds from about 20 on
SCIENTIFIC = re.compile(
    r"(?<![\w.])(?:\d{1,1000}(?:\.\d{1,1000})?|\.\d{1,1000})[eE]([+-]?\d{1,1000})(?!\w)", re.ASCII
)
DELIMITERS = ("$", "\\boxed", "\\(", "\\[")


@dataclass(frozen=True)
class Math:
    """1.0 when the reply's answer equals ``Problem.answer`` by math-verify, else 0.0.

    A gold answer that can't be read gives None; `check` refuses it before a run. A reply without an answer
    gives 0.0.

    Raises:
        CoveyError: math-verify isn't installed.
    """

    pooled: ClassVar[bool] = True
    each: ClassVar[bool] = True
    checks_all: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(seconds=5.0, memory_mb=1024)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise CoveyError("[reward] 'math' needs math-verify: pip install 'covey[math]'")

    def prepare(self) -> None:
        """Import what takes a second, and parse once, which builds tables."""
        gold("1")

    def check(self, problem: Problem) -> None:
        """Raise CoveyError when the problem's gold answer can't be read."""
        if not (problem.answer and gold(problem.answer)):
            raise CoveyError(
                f"problem {problem.id!r}: math-verify can't read the gold answer {problem.answer!r}; "
                "mend the row or take it out"
            )

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [self._score(episode.text, episode.problem) for episode in episodes]

    def _score(self, text: str, problem: Problem) -> Score:
        answer = problem.answer
        wanted = attempt("math", lambda: gold(answer)) if answer else []
        if isinstance(wanted, Failure):
            return wanted.score
        if not wanted:
            return Failure(f"the gold answer {answer!r} can't be read", "type").score
        read = written_out(text[-READ_CHARACTERS:])
        if depth(read) > DEEPEST:
            return Score(0.0)
        result = attempt("math", lambda: equal(wanted, read))
        return result.score if isinstance(result, Failure) else Score(float(result))


@lru_cache(maxsize=1024)
def gold(answer: str) -> list[Any]:
    """A gold answer as math-verify reads it; nothing when it can't. Raises what math-verify raises."""
    if not answer.strip() or len(answer) > READ_CHARACTERS or depth(answer) > DEEPEST:
        return []
    answer = written_out(answer)
    with heard():
        return _parse(answer if any(mark in answer for mark in DELIMITERS) else f"\\boxed{{{answer}}}")


def equal(wanted: Sequence[Any], text: str) -> bool:
    """Whether a reply's answer equals the gold one.

    Where SymPy tries random numbers, they are the same each time.
    """
    import sympy.core.random
    from math_verify import verify

    random.seed(0)
    sympy.core.random.seed(0)
    with heard():
        return verify(list(wanted), _parse(text), timeout_seconds=None)


def written_out(text: str) -> str:
    """A text with its numbers in scientific notation written out, of which math-verify would read 42e1 as 42.

    One with an exponent beyond ±999 becomes something that is no number.
    """

    def plain(found: re.Match[str]) -> str:
        return f"{Decimal(found[0]):f}" if len(found[1].lstrip("+-")) <= 3 else r"\infty"

    return SCIENTIFIC.sub(plain, text)


def depth(text: str) -> int:
    """How deep brackets of all kinds stand in each other, at most; those that are never closed, too."""
    deepest = now = 0
    for character in text:
        if character in "([{":
            now += 1
            deepest = max(deepest, now)
        elif character in ")]}":
            now = max(0, now - 1)
    return deepest


def _parse(text: str) -> list[Any]:
    from math_verify import parse

    return parse(text, parsing_timeout=0)  # 0: none


class Swallowed(logging.Handler):
    """Hears of the errors that math-verify takes for "not equal", which memory running out is not."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.memory = False

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        self.memory = self.memory or (kind is not None and issubclass(kind, MemoryError))


@contextmanager
def heard() -> Iterator[None]:
    """Raise MemoryError at the end if math-verify has swallowed one."""
    swallowed, logger = Swallowed(), logging.getLogger("math_verify")
    before = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False  # it also warns that its alarm is off
    logger.addHandler(swallowed)
    try:
        yield
    finally:
        logger.removeHandler(swallowed)
        logger.level, logger.propagate = before
    if swallowed.memory:
        raise MemoryError
