"""Whole-number arithmetic: every pair of operands in a range, with each operation."""

from __future__ import annotations

import itertools
import operator
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from covey.protocols import Split
from covey.rewards.number import parse_number
from covey.tasks.errors import check_template, unknown
from covey.tasks.heldout import held_out, shuffled
from covey.types import CoveyError, Problem

OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
}

POOL = 50_000
LARGEST = 10**15

Exercise: TypeAlias = tuple[int, str, int]
"""``(a, op, b)``."""


class Arithmetic:
    """Problems such as ``12+34``, which is also their id; their columns are ``a``, ``op`` and ``b``.

    All exercises with operands from ``low`` to ``high``, both included, when there are at most 50,000;
    of a larger space, 50,000 different ones drawn evenly from it, the same on every machine. Either
    way they come in an order that is random but fixed, so that the first n are a fair choice.

    ``heldout`` is the share of problems held out. Exercises with the same operation and operands fall on
    the same side whatever their order (``12+34`` and ``34+12``), in every range.

    ``//`` is division rounded down, as in Python; exercises that divide by zero are left out.

    Raises:
        CoveyError: an unknown operation, an empty range, a share outside (0, 1), a prompt that lacks
            ``{a}``, ``{op}`` or ``{b}`` or asks for something else.
    """

    def __init__(
        self,
        operations: Sequence[str] = ("+",),
        low: int = 10,
        high: int = 99,
        heldout: float = 0.1,
        prompt: str = "What is {a} {op} {b}? Answer with just the number.",
    ) -> None:
        operations = (operations,) if isinstance(operations, str) else tuple(dict.fromkeys(operations))
        _check(operations, low, high, prompt)
        exercises = sorted(_exercises(operations, low, high), key=lambda exercise: shuffled(_id(exercise)))
        held = held_out({_identity(exercise) for exercise in exercises}, heldout, "arithmetic")
        self._problems: dict[Split, tuple[Problem, ...]] = {
            "train": tuple(_problem(e, prompt) for e in exercises if _identity(e) not in held),
            "heldout": tuple(_problem(e, prompt) for e in exercises if _identity(e) in held),
        }

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split, in a fixed random order."""
        return self._problems[split]


def _check(operations: Sequence[str], low: int, high: int, prompt: str) -> None:
    if not operations:
        raise CoveyError(f"arithmetic: no operations; choose from {', '.join(OPERATIONS)}")
    for operation in operations:
        if operation not in OPERATIONS:
            raise unknown("arithmetic", "operation", str(operation), OPERATIONS)
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST:
            raise CoveyError(f"arithmetic: {name} must be a whole number within ±10^15, not {value!r}")
    if low > high:
        raise CoveyError(f"arithmetic: low must not be above high, but {low} > {high}")
    check_template("arithmetic", prompt, ("a", "op", "b"))


def _exercises(operations: Sequence[str], low: int, high: int) -> list[Exercise]:
    """All exercises, or as many as the pool holds."""
    size = high - low + 1
    if len(operations) * size**2 <= POOL:
        operands = range(low, high + 1)
        every = itertools.product(operands, operations, operands)
        return [exercise for exercise in every if _defined(exercise)]
    # Only random() is promised to give the same sequence in every Python version.
    draw = random.Random(0).random
    drawn: dict[Exercise, None] = {}
    while len(drawn) < POOL:
        a, b = (low + int(draw() * size) for _ in range(2))
        exercise = (a, operations[int(draw() * len(operations))], b)
        if _defined(exercise):
            drawn[exercise] = None
    return list(drawn)


def _defined(exercise: Exercise) -> bool:
    return exercise[1] != "//" or exercise[2] != 0


def _id(exercise: Exercise) -> str:
    return "{}{}{}".format(*exercise)


def _identity(exercise: Exercise) -> str:
    """What two exercises share that must not be told apart by the split."""
    a, op, b = exercise
    return _id((min(a, b), op, max(a, b)))


def _problem(exercise: Exercise, prompt: str) -> Problem:
    a, op, b = exercise
    answer = str(OPERATIONS[op](a, b))
    if parse_number(answer) is None:
        raise CoveyError(f"arithmetic: the answer of {_id(exercise)} is no number: {answer!r}")
    content = prompt.format(a=a, op=op, b=b)
    return Problem(_id(exercise), ({"role": "user", "content": content},), answer, {"a": a, "op": op, "b": b})
