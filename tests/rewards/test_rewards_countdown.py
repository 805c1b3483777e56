"""An expression counts when it comes to the target and keeps the rules; nothing of it is ever run."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.rewards.countdown import Countdown, evaluate
from covey.types import Completion, CoveyError, Episode, Problem, StopReason, Turn

PROBLEM = Problem("p", ({"role": "user", "content": "?"},), "4 * 6", {"numbers": [4, 6, 6], "target": 24})


def value(text: str, problem: Problem = PROBLEM, **settings) -> float | None:
    completion = Completion((2,), (-1.0,), StopReason.END, 0, text)
    [score] = Countdown(**settings)([Episode(problem, 0, (Turn((1,), completion),))])
    return score.value


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("4 * 6", 1.0),
        ("6×4", 1.0),
        ("(4 * 6) = 24", 1.0),
        ("4 * 6 + 6 - 6", 0.0),  # 6 three times
        ("4 * 6 = 25", 0.0),
        ("24", 0.0),  # not one of the numbers
        ("4 * 5", 0.0),
        ("6 + 6 * 4 - 6", 0.0),
        ("4 * 6 = 24 = 24", 0.0),
        ("", 0.0),
        ("4 * 6; 4", 0.0),
        ("46 - 6", 0.0),
        ("4 6 *", 0.0),
        ("-(-4) * 6", 1.0),
        ("6 / 0", 0.0),
        ("4 ** 6", 0.0),
        ("__import__('os')", 0.0),
        ("４ * ６", 0.0),  # digits are ASCII
    ],
)
def test_an_expression(expression: str, wanted: float) -> None:
    assert value(f"I think <answer>{expression}</answer>") == wanted


def test_fractions_are_exact() -> None:
    # 8 / (3 - 8 / 3) = 8 / (1/3) = 24, which floating point misses
    hard = Problem("h", PROBLEM.messages, None, {"numbers": [3, 3, 8, 8], "target": 24})
    assert value("<answer>8 / (3 - 8 / 3)</answer>", hard) == 1.0


def test_all_numbers_when_asked() -> None:
    assert value("<answer>4 * 6</answer>", use_all=True) == 0.0
    assert value("<answer>6 * (4 + 6 - 6)</answer>", use_all=True) == 0.0
    whole = Problem("w", PROBLEM.messages, None, {"numbers": [4, 6], "target": 24})
    assert value("<answer>4 * 6</answer>", whole, use_all=True) == 1.0


def test_only_one_answer_counts() -> None:
    assert value("<answer>4 + 6</answer><answer>4 * 6</answer>") == 0.0
    assert value("4 * 6") == 0.0
    assert value("4 * 6", tag=None) == 1.0


def test_a_problem_without_its_columns_isn_t_scored_and_is_refused_at_the_start() -> None:
    bare = Problem("bare", PROBLEM.messages, "24", {"numbers": "4, 6"})
    assert value("<answer>4 * 6</answer>", bare) is None
    with pytest.raises(CoveyError, match=r"reads the columns numbers .* 'bare' has numbers"):
        Countdown().check(bare)


@given(st.text(alphabet="0123456789+-*/() =", max_size=60) | st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    assert value(f"<answer>{text}</answer>") in (0.0, 1.0)


@pytest.mark.parametrize(
    "text", ["(" * 10_000, "-" * 400 + "1", "9" * 400, "1+" * 249 + "1", "(" * 60 + "1" + ")" * 60]
)
def test_hostile_texts_end(text: str) -> None:
    assert evaluate(text) in (None, (Fraction(250), [1] * 250))


_EXPRESSIONS = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=8,
)


@given(_EXPRESSIONS, _EXPRESSIONS, st.sampled_from(["+", "-", "*"]))
def test_it_reads_as_python_does(one: str, other: str, sign: str) -> None:
    bare = f"{one[1:-1] if one[0] == '(' else one} {sign} {other}"
    found = evaluate(bare)
    assert found is not None
    assert found[0] == eval(bare)  # written by this test, of digits and signs
