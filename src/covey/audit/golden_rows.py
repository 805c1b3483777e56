"""Comparing what a golden-vector file expects with what Covey computes, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from covey.types import CoveyError


@dataclass(frozen=True)
class Row:
    """One row: what the file says, what Covey computes, and the largest difference relative to the
    row's size (infinite for a wrong shape, word or missing value). ``problem`` says why a row could not
    be evaluated; it fails then."""

    name: str
    ok: bool
    expected: Any
    got: Any
    error: float
    problem: str = ""


@dataclass(frozen=True)
class Sum:
    """A sum whose terms may cancel: rounding is relative to ``scale``, the size of the terms."""

    value: Any
    scale: Any


Results: TypeAlias = Mapping[str, Any]
"""Covey's value of each row of a section: numbers, tensors, lists, words, `Sum`s, or tables of them."""

_FLOOR = 1e-3
"""Rows smaller than this are compared absolutely: 1e-17 where the equation gives 0 is no error."""


def section_rows(
    name: str,
    section: Any,
    evaluate: Callable[[], Results],
    *,
    tolerance: float,
    inputs: Set[str] = frozenset(),
) -> Iterator[Row]:
    """A row for every key of a section that isn't one of its ``inputs``; a key that ``evaluate``
    has no value for gives a failing row, and so does every key of a section that can't be read."""
    if not isinstance(section, Mapping):
        yield broken(name, f"row {name}: must be a table, not {_brief(section)}")
        return
    try:
        results = evaluate()
    except CoveyError as error:
        yield from _none_of(name, section, inputs, str(error))
        return
    # The file's content is foreign: whatever breaks on it is reported with the rows that hold it.
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError) as e:
        missing = f"input {e} is missing" if isinstance(e, KeyError) else str(e)
        yield from _none_of(name, section, inputs, f"row {name}: can't be read: {missing}")
        return
    for key, expected in section.items():
        if key in results:
            yield from _compared(f"{name}.{key}", expected, results[key], tolerance)
        elif key not in inputs:
            yield unknown(f"{name}.{key}", expected)


def _none_of(name: str, section: Mapping[str, Any], inputs: Set[str], problem: str) -> Iterator[Row]:
    """A section without results: a failing row for each that it should have."""
    yield from (broken(f"{name}.{key}", problem) for key in section if key not in inputs)


def broken(name: str, problem: str) -> Row:
    """A row that could not be evaluated."""
    return Row(name, False, None, None, math.inf, " ".join(problem.split()))


def unknown(name: str, expected: Any) -> Row:
    """A row that Covey has no meaning for. It fails: nothing is skipped in silence."""
    return Row(f"unknown: {name}", False, expected, None, math.inf, "nothing of that name is known here")


def compared(name: str, expected: Any, got: Any, tolerance: float) -> Row:
    """One row against Covey's value."""
    scale = 0.0
    if isinstance(got, Sum):
        got, scale = got.value, float(got.scale)
    got = got.tolist() if isinstance(got, Tensor) else got
    try:
        error = _difference(name, expected, got, scale)
    except CoveyError as problem:
        return broken(name, str(problem))
    return Row(name, error <= tolerance, expected, got, error)


def _compared(name: str, expected: Any, got: Any, tolerance: float) -> Iterator[Row]:
    if not isinstance(got, Mapping):
        yield compared(name, expected, got, tolerance)
        return
    if not isinstance(expected, Mapping):
        yield broken(name, f"row {name}: must be a table, not {_brief(expected)}")
        return
    for key, value in expected.items():
        if key in got:
            yield from _compared(f"{name}.{key}", value, got[key], tolerance)
        else:
            yield unknown(f"{name}.{key}", value)


def _difference(name: str, expected: Any, got: Any, scale: float) -> float:
    wanted, found = list(_leaves(expected)), list(_leaves(got))
    if [path for path, _ in wanted] != [path for path, _ in found]:
        return math.inf
    pairs = [(w, f) for (_, w), (_, f) in zip(wanted, found, strict=True)]
    for w, f in pairs:
        if not _is_number(w) and not isinstance(w, str | None):
            raise CoveyError(f"row {name}: {_brief(w)} is neither a number nor a word")
        if _is_number(w) != _is_number(f) or (not _is_number(w) and w != f):
            return math.inf
    try:
        values = [(float(w), float(f)) for w, f in pairs if _is_number(w)]
    except OverflowError:  # a whole number beyond all floats
        return math.inf
    if any(not math.isfinite(w) or not math.isfinite(f) for w, f in values):
        return math.inf
    largest = max((abs(w) for w, _ in values), default=0.0)
    return max((abs(w - f) for w, f in values), default=0.0) / max(largest, scale, _FLOOR)


def _leaves(value: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    if isinstance(value, list | tuple):
        yield (*path, -1 - len(value)), None  # so that an empty list differs from none
        for i, item in enumerate(value):
            yield from _leaves(item, (*path, i))
    else:
        yield path, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
