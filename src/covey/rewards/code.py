"""Unit tests for code: 1.0 when the reply's program passes all tests of its problem, else 0.0.

The tests are columns of the problem, in one of three forms:

- ``test`` and ``entry_point``, as in HumanEval: a program that defines ``check(candidate)``, and the name
  of the function it tests
- ``cases`` and ``entry_point``: a list of ``{"input": [arguments], "output": value}``
- ``cases`` alone: a list of ``{"input": "stdin", "output": "stdout"}`` for a whole program

A column ``prefix`` is Python text that stands before the reply, and before ``test``: imports, helpers,
the signature. A reply that starts indented goes on from where it ends.

The program is the last code block of the reply that defines ``entry_point``, or else the last one, or the
whole reply when it has none. It runs in the sandbox, and only computes: what it should have computed is
compared elsewhere. Values are compared as Python does, except that a bool is no number, and that in
``cases`` a tuple counts as a list, which is all that JSON has. Printed text is compared line by line without
the blanks at the lines' ends.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from covey import sandbox
from covey.rewards.gold import refused
from covey.sandbox import Failure, Limits
from covey.types import CoveyError, Episode, Problem, Score

PYTHON = ("", "python", "python3", "py")
_FENCE = re.compile(r"[ \t]*```+[ \t]*(\w*)")


@dataclass(frozen=True)
class Code:
    """1.0 when the reply's program passes its problem's tests within the limits, else 0.0.

    ``seconds`` and ``memory_mb`` are for all tests of one reply, and for each case where a case is a whole
    program. ``unsafe_local`` lets programs run without walls where no sandbox works. Tests that can't be
    used give None and say why; `check` refuses such a problem before a run.

    Raises:
        CoveyError: no sandbox works here.
    """

    checks_all: ClassVar[bool] = True

    seconds: float = 3.0
    memory_mb: int = 512
    unsafe_local: bool = False

    def __post_init__(self) -> None:
        sandbox.chosen(None, self.unsafe_local)

    @property
    def notes(self) -> tuple[str, ...]:
        """Where programs run on this machine, for the start of a run."""
        return (sandbox.describe(self.unsafe_local),)

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [self._score(episode) for episode in episodes]

    def _score(self, episode: Episode) -> Score:
        if reason := unusable(episode.problem):
            return Score(None, error=f"problem {episode.problem.id}: {reason}")
        try:
            failed = self._failure(episode.text, episode.problem)
        except CoveyError as error:  # of the machine, and not of the reply
            return Score(None, error=str(error))
        if failed is not None and failed.kind == "tests":
            return Score(
                None, error=f"the tests of problem {episode.problem.id} can't be run: {failed.detail}"
            )
        return Score(float(failed is None))

    def check(self, problem: Problem) -> None:
        """Raise CoveyError when the problem has no tests that can be used. They aren't run."""
        if reason := unusable(problem):
            raise refused(problem, reason)

    def _failure(self, text: str, problem: Problem) -> Failure | None:
        """Why a reply's program fails the problem's usable tests, or None. Raises CoveyError: no sandbox."""
        columns = problem.columns
        limits = Limits(seconds=self.seconds, memory_mb=self.memory_mb)
        function, prefix = columns.get("entry_point"), columns.get("prefix") or ""
        program = program_of(text, prefix, function)
        if function and isinstance(columns.get("test"), str):
            tests = f"{prefix}\n{columns['test']}"
            return sandbox.check(program, tests, function, limits=limits, unsafe_local=self.unsafe_local)
        if function:
            return self._calls(program, function, columns["cases"], limits)
        return self._runs(program, columns["cases"], limits)

    def _calls(self, program: str, function: str, cases: Sequence[Any], limits: Limits) -> Failure | None:
        inputs = [case["input"] for case in cases]
        values = sandbox.call(program, function, inputs, limits=limits, unsafe_local=self.unsafe_local)
        for case, value in zip(cases, values, strict=True):
            if isinstance(value, Failure):
                return value
            if not same(value, case["output"]):
                return Failure("wrong")
        return None

    def _runs(self, program: str, cases: Sequence[Any], limits: Limits) -> Failure | None:
        for case in cases:
            done = sandbox.run(program, stdin=case["input"], limits=limits, unsafe_local=self.unsafe_local)
            if done.status != "ok" or _lines(done.stdout) != _lines(case["output"]):
                return Failure("wrong", done.status)
        return None


def unusable(problem: Problem) -> str | None:
    """Why a problem's columns are no tests that can be used, or None when they are."""
    columns = problem.columns
    function, test, cases = columns.get("entry_point"), columns.get("test"), columns.get("cases")
    if function is not None and not _is_name(function):
        return f"entry_point must be the name of a function, not {function!r}"
    if not isinstance(columns.get("prefix") or "", str):
        return "prefix must be Python text"
    if isinstance(test, str) and function:
        return None
    if not isinstance(cases, list | tuple) or not cases or not all(map(_is_case, cases)):
        return (
            "reward code needs the columns test and entry_point, or a list of cases, each with an input and "
            f"an output; there are: {', '.join(columns) or 'none'}"
        )
    if function and not all(isinstance(case["input"], list | tuple) for case in cases):
        return "with an entry_point, a case's input is the list of its arguments"
    if not function and not all(isinstance(case[key], str) for case in cases for key in ("input", "output")):
        return "without an entry_point, a case's input and output are texts"
    return None


def program_of(text: str, prefix: str = "", function: str | None = None) -> str:
    """The program in a reply, with the prefix before it."""
    blocks = code_blocks(text)
    if function:
        head = re.compile(rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{re.escape(function)}\b", re.MULTILINE)
        blocks = [block for block in blocks if head.search(block)] or blocks
    code = blocks[-1] if blocks else text
    if prefix and code.lstrip("\r\n")[:1] in (" ", "\t"):
        return prefix + code
    return f"{prefix}\n\n{code}" if prefix else code


def code_blocks(text: str) -> list[str]:
    """The text between fences of three backticks or more, Python's or of no language, in order.

    The last one may lack its end.
    """
    blocks: list[list[str]] = []
    inside = kept = False
    for line in text.splitlines():
        if fence := _FENCE.match(line):
            inside = not inside
            kept = inside and fence[1].lower() in PYTHON
            if kept:
                blocks.append([])
        elif kept:
            blocks[-1].append(line)
    return ["\n".join(lines) for lines in blocks]


def same(value: Any, expected: Any) -> bool:
    """Are two plain values equal, a tuple counting as a list and a bool as no number?"""
    if isinstance(expected, list | tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(expected)
            and all(map(same, value, expected))
        )
    if isinstance(expected, dict):
        return (
            isinstance(value, dict)
            and value.keys() == expected.keys()
            and all(same(value[key], item) for key, item in expected.items())
        )
    return isinstance(value, bool) == isinstance(expected, bool) and value == expected


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)


def _is_case(case: object) -> bool:
    return isinstance(case, Mapping) and {"input", "output"} <= case.keys()


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
