"""Which number a reply ends on, and what it is worth."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.rewards.number import MAX_DIGITS, TAIL_CHARACTERS, Number, last_number, parse_number, score
from covey.types import Completion, Episode, Problem, StopReason, Turn


def episode(text: str, answer: str | None, stop: StopReason = StopReason.END) -> Episode:
    problem = Problem("p", ({"role": "user", "content": "?"},), answer)
    return Episode(problem, 0, (Turn((1,), Completion((2,), (-1.0,), stop, 0, text)),))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("83", "83"),
        ("It is 83.", "83"),
        ("44 + 39 = 83.", "83"),
        ("83 apples", "83"),
        ("83cm", "83"),
        ("First 12, then 83!", "83"),
        (r"\boxed{83}", "83"),
        (r"\boxed{-5}.", "-5"),
        ("**83**", "83"),
        ("$1,234.50 in all", "1234.5"),
        ("1,234,567", "1234567"),
        ("1,2,3", "3"),
        ("1,2,345", "345"),
        ("1234,567", "567"),
        ("1,234,56", "56"),
        ("0,123", "123"),
        ("3,14", "14"),
        ("-1,2", "2"),
        ("5,-3", "-3"),
        ("10.", "10"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("so...5", "5"),
        ("007", "7"),
        ("1e3", "1000"),
        ("2.5E-2 m", "0.025"),
        ("5e", "5"),
        ("-5", "-5"),
        ("+5", "5"),
        ("is −5", "-5"),
        ("is –5", "-5"),
        ("x=-5", "-5"),
        ("(-5)", "-5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("5--3", "-3"),
        ("12-7=5", "5"),
        ("12-7", "7"),
        ("3–5", "5"),
        ("x-5", "5"),
        (")-5", "5"),
        ("3 - 5", "5"),
        ("3/4", "4"),
        ("2^10", "10"),
        ("50%", "50"),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str) -> None:
    assert last_number(text) == Fraction(number)


@pytest.mark.parametrize("text", ["", "none", "e", "3 and 1.2.3", "1e1001", "٨٣", "½", "-"])
def test_texts_without_a_number_at_their_end(text: str) -> None:
    assert last_number(text) is None


@pytest.mark.parametrize("text", ["", "83 apples", "12-7", "1,2,3", "1.2.3", "nan", "inf", "#### 83", "10."])
def test_what_is_more_than_a_number_is_no_gold_answer(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize("text", [" 83\n", "83.0", "0083", "8.3e1", "+83", "$83"])
def test_spellings_of_one_gold_answer(text: str) -> None:
    assert parse_number(text) == 83


def test_numbers_are_compared_exactly() -> None:
    assert score("0.10", "0.1").value == 1.0
    # the same float as 0.1, and another number
    assert score("0.1000000000000000055511151231257827", "0.1").value == 0.0
    # 2^53 + 1 and 2^53 are the same float too
    assert score("9007199254740993", "9007199254740992").value == 0.0


def test_a_wrong_or_missing_number_is_zero_truncated_or_not() -> None:
    episodes = [
        episode("82", "83"),
        episode("", "83"),
        episode("It is 83 or so", "83", StopReason.LENGTH),
        episode("It is 8", "83", StopReason.LENGTH),
    ]
    assert [s.value for s in Number()(episodes)] == [0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "error"),
    [(None, "the problem has no gold answer"), ("many", "the gold answer is not a number: 'many'")],
)
def test_without_a_gold_number_nothing_is_scored(answer: str | None, error: str) -> None:
    graded = Number()([episode("83", answer)])[0]
    assert (graded.value, graded.error) == (None, error)


def test_only_the_end_is_read_and_a_number_cut_there_is_not() -> None:
    assert last_number("83" + " " * (TAIL_CHARACTERS - 1)) is None  # the cut falls between 8 and 3
    assert last_number("x" * 10_000 + " 83" + " " * (TAIL_CHARACTERS - 3)) == 83
    assert last_number("83" + "x" * TAIL_CHARACTERS) is None


def test_too_many_digits_are_no_number() -> None:
    assert last_number("7" * MAX_DIGITS) is not None
    assert last_number("7" * (MAX_DIGITS + 1)) is None
    assert score("1", "7" * (MAX_DIGITS + 1)).value is None


@pytest.mark.parametrize(
    "piece", ["-", "1,", "1.", "1e", "$", "1", ".1", "-$", "1e-", "\\$", "1,111", "٨", "\ud800", "\0"]
)
def test_hostile_text_is_graded_like_any_other(piece: str) -> None:
    assert score(piece * 200_000 + " 83", "83").value == 1.0
    assert score(piece * 200_000, "83").value == 0.0


@given(st.integers(-(10**30), 10**30), st.text(alphabet="abc =:.!\n*{}", max_size=20))
def test_every_integer_survives_what_follows_it(value: int, rest: str) -> None:
    assert last_number(f"It is {value}{rest.removeprefix('e')}") == value
    assert last_number(f"It is {value:,} {rest}") == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_every_decimal_is_read_exactly(value: Decimal) -> None:
    assert parse_number(str(value)) == last_number(f"= {value}.") == Fraction(value)


@given(st.text())
def test_any_text_is_scored(text: str) -> None:
    assert score(text, "83").value in (0.0, 1.0)
    assert score("83", text).value in (0.0, 1.0, None)
