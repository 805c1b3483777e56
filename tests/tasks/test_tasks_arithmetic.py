"""Arithmetic problems: right answers, ids, and a split that keeps commuted twins together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.protocols import Task
from covey.rewards.number import score
from covey.tasks.arithmetic import POOL, Arithmetic
from covey.types import CoveyError, Problem


def both(task: Arithmetic) -> list[Problem]:
    return [*task.problems("train"), *task.problems("heldout")]


def ids(problems: Sequence[Problem]) -> set[str]:
    return {problem.id for problem in problems}


def test_the_default_is_every_sum_of_two_digits() -> None:
    task = Arithmetic()
    assert isinstance(task, Task)
    problems = {problem.id: problem for problem in both(task)}
    assert len(problems) == len(both(task)) == 90 * 90  # 10 … 99, squared
    assert problems["12+34"] == Problem(
        id="12+34",
        messages=({"role": "user", "content": "What is 12 + 34? Answer with just the number."},),
        answer="46",
        columns={"a": 12, "op": "+", "b": 34},
    )
    # 4,095 unordered pairs, a tenth of them 410 ± 4 × sqrt(4,095 × 0.09) = 77, most of them twice
    assert 2 * 330 < len(task.problems("heldout")) < 2 * 490


OPERATIONS = st.lists(st.sampled_from(["+", "-", "*", "//"]), min_size=1, max_size=4)


@settings(deadline=None)
@given(OPERATIONS, st.integers(-30, 30), st.integers(2, 12), st.floats(0.01, 0.99))
def test_no_problem_nor_its_twin_is_in_both_splits(
    operations: list[str], low: int, size: int, heldout: float
) -> None:
    task = Arithmetic(operations, low, low + size, heldout)
    train, held = ids(task.problems("train")), ids(task.problems("heldout"))
    assert train
    assert held
    assert not train & held
    assert len(train) + len(held) == len(both(task))
    for problem in task.problems("train"):
        a, op, b = (problem.columns[name] for name in ("a", "op", "b"))
        assert f"{b}{op}{a}" not in held


@settings(deadline=None)
@given(OPERATIONS, st.integers(-30, 30), st.integers(2, 12))
def test_every_gold_answer_is_right_and_scores_full_marks(operations: list[str], low: int, size: int) -> None:
    for problem in both(Arithmetic(operations, low, low + size)):
        a, op, b = (problem.columns[name] for name in ("a", "op", "b"))
        value = int(problem.answer or "")
        assert {
            "+": value == a + b,
            "-": value == a - b,
            "*": value == a * b,
            "//": b != 0 and value == a // b,
        }[op]
        assert problem.messages[0]["content"].startswith(f"What is {a} {op} {b}?")
        assert score(str(problem.answer), problem.answer).value == 1.0


def test_a_problem_keeps_its_side_in_another_range() -> None:
    small, large = Arithmetic(low=10, high=60), Arithmetic(low=1, high=99, operations=["+", "-"])
    assert ids(small.problems("heldout")) == ids(small.problems("heldout")) & ids(large.problems("heldout"))
    assert ids(small.problems("train")) == ids(small.problems("train")) & ids(large.problems("train"))


def test_the_order_is_random_and_fixed() -> None:
    first = [problem.id for problem in Arithmetic().problems("heldout")]
    assert first == [problem.id for problem in Arithmetic().problems("heldout")]
    mean = sum(problem.columns["a"] for problem in Arithmetic().problems("heldout")[:128]) / 128
    assert 45 < mean < 64  # 54.5 ± 4 × 26 / sqrt(128): the first n are no corner of the range


def test_a_large_space_is_drawn_from() -> None:
    task = Arithmetic(["+", "*"], low=1, high=10**12)
    problems = both(task)
    assert len(ids(problems)) == len(problems) == POOL
    assert {problem.columns["op"] for problem in problems} == {"+", "*"}
    # the mean of 50,000 draws from 1 … 10^12: 0.5 ± 4 × 0.289 / sqrt(50,000) = 0.005
    assert abs(sum(problem.columns["a"] for problem in problems) / POOL / 10**12 - 0.5) < 0.006
    assert problems[0] == both(Arithmetic(["+", "*"], low=1, high=10**12))[0]


def test_division_by_zero_is_left_out() -> None:
    problems = both(Arithmetic(["//"], low=-1, high=1))
    assert {problem.id: problem.answer for problem in problems} == {
        "-1//-1": "1",
        "-1//1": "-1",
        "0//-1": "0",
        "0//1": "0",
        "1//-1": "-1",
        "1//1": "1",
    }


def test_one_operation_may_be_a_string_and_repeated_ones_count_once() -> None:
    assert len(both(Arithmetic("//", low=1, high=3))) == 9
    assert len(both(Arithmetic(["+", "+"], low=1, high=3))) == 9


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"operations": ["/"]}, "arithmetic: no operation '/'. Did you mean '//'? There are: +, -, *, //"),
        ({"operations": []}, "arithmetic: no operations; choose from +, -, *, //"),
        ({"low": 5, "high": 4}, "arithmetic: low must not be above high, but 5 > 4"),
        ({"low": 1.5}, "arithmetic: low must be a whole number within ±10^15, not 1.5"),
        ({"high": "9"}, "arithmetic: high must be a whole number within ±10^15, not '9'"),
        ({"high": 10**16}, f"arithmetic: high must be a whole number within ±10^15, not {10**16}"),
        ({"heldout": 1}, "arithmetic: heldout must be a share between 0 and 1, such as 0.1, not 1"),
        (
            {"low": 1, "high": 1},
            "arithmetic: to hold problems out takes at least two different ones, and there is 1",
        ),
        (
            {"prompt": "{a} plus {b}"},
            "arithmetic: the prompt must use {a}, {op} and {b} and nothing else: '{a} plus {b}'",
        ),
        (
            {"prompt": "{a}{op}{b}{c}"},
            "arithmetic: the prompt must use {a}, {op} and {b} and nothing else: '{a}{op}{b}{c}'",
        ),
        (
            {"prompt": "{a"},
            "arithmetic: the prompt is no format string (expected '}' before end of string): '{a'",
        ),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(CoveyError) as caught:
        Arithmetic(**parameters)
    assert str(caught.value) == message
