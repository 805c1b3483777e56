"""Arithmetic is exact, follows Python's precedence, and no text costs more than its bounds."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.tasks.expression import evaluate, written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("2**3**2", 512),  # from the right: 2^9
        ("-2**2", -4),
        ("2**-1", Fraction(1, 2)),
        ("7//2", 3),
        ("-7//2", -4),
        ("-7%3", 2),
        ("1/3+1/6", Fraction(1, 2)),
        ("0.1+0.2", Fraction(3, 10)),
        (" 12 × 3 − 4 ÷ 2 ", 34),
        ("2^10", 1024),
        ("--3", 3),
        ("(-1)**1000001", -1),
        ("1**999999999", 1),
        ("0**0", 1),
        ("0**5", 0),
        ("142*956", 135752),
    ],
)
def test_values(text: str, expected: Fraction | int) -> None:
    assert evaluate(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "ends where a number"),
        ("1+", "ends where a number"),
        ("(1", "isn't closed"),
        ("1)", "isn't expected"),
        ("1 2", "isn't expected"),
        ("1/0", "division by zero"),
        ("1%0", "division by zero"),
        ("0**-1", "division by zero"),
        ("2**0.5", "must be whole"),
        ("9**9**9**9", "too large"),
        ("2**99999999", "too large"),
        ("(9**1000)" * 1 + "*9**1000", "too large"),
        ("(" * 400, "nested too deeply"),
        ("-" * 400 + "1", "nested too deeply"),
        ("2**" * 150 + "1", "nested too deeply"),
        ("1" * 501, "longer than 500"),
        ("__import__('os')", "no part of arithmetic"),
        ("١+١", "no part of arithmetic"),  # Arabic digits
        ("1e9", "no part of arithmetic"),
    ],
)
def test_what_is_no_arithmetic_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        evaluate(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(7), "7"),
        (Fraction(-1, 2), "-0.5"),
        (Fraction(1, 8), "0.125"),
        (Fraction(-5, 4), "-1.25"),
        (Fraction(1, 3), "1/3"),
        (Fraction(1, 2**40), "1/1099511627776"),  # 40 places: a fraction is shorter
    ],
)
def test_written(value: Fraction, text: str) -> None:
    assert written(value) == text


Sum = tuple[str, int | None]
"""A text, and its value as Python's whole numbers have it; None where it divides by zero."""

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


def joined(parts: tuple[Sum, str, Sum]) -> Sum:
    (left, a), sign, (right, b) = parts
    text = f"({left}{sign}{right})"
    if a is None or b is None or (not b and sign in ("//", "%")):
        return text, None
    return text, OPERATIONS[sign](a, b)


operands = st.integers(-99, 99).map(lambda n: (f"({n})" if n < 0 else str(n), n))
sums = st.recursive(
    operands,
    lambda inner: st.tuples(inner, st.sampled_from(list(OPERATIONS)), inner).map(joined),
    max_leaves=8,
)


@given(sums)
def test_integers_are_as_python_has_them(drawn: Sum) -> None:
    text, expected = drawn
    if expected is None:
        with pytest.raises(ValueError, match="division by zero"):
            evaluate(text)
    else:
        assert evaluate(text) == expected


@given(st.text(alphabet="0123456789+-*/%(). ^", max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(written(evaluate(text)), str)
