"""Countdown problems: each has its solution, and no two are the same."""

from __future__ import annotations

from typing import Any

import pytest

from covey.rewards.countdown import Countdown as Reward
from covey.tasks.countdown import Countdown
from covey.types import Completion, CoveyError, Episode, Problem, StopReason, Turn


def reply(problem: Problem, text: str) -> Episode:
    return Episode(problem, 0, (Turn((1,), Completion((2,), (-1.0,), StopReason.END, 0, text)),))


def test_every_gold_answer_scores_full_marks_using_all_numbers() -> None:
    task = Countdown(problems=300)
    problems = [*task.problems("train"), *task.problems("heldout")]
    assert len(problems) == 300
    reward = Reward(use_all=True)
    for problem in problems:
        [score] = reward([reply(problem, f"<answer>{problem.answer} = {problem.columns['target']}</answer>")])
        assert score.value == 1.0
        assert 3 <= len(problem.columns["numbers"]) <= 4
        assert 0 < problem.columns["target"] <= 999


def test_no_problem_is_on_both_sides_whatever_the_order_of_its_numbers() -> None:
    task = Countdown(problems=400, least=2, most=3, high=12)
    seen = [
        {(tuple(sorted(p.columns["numbers"])), p.columns["target"]) for p in task.problems(split)}
        for split in ("train", "heldout")
    ]
    assert len(seen[0]) + len(seen[1]) == 400
    assert not seen[0] & seen[1]


def test_the_same_seed_gives_the_same_problems_and_more_of_them_keep_their_side() -> None:
    few, many = Countdown(problems=50), Countdown(problems=200)
    assert Countdown(problems=50).problems("train") == few.problems("train")
    assert {p.id for p in few.problems("heldout")} <= {p.id for p in many.problems("heldout")}
    assert Countdown(problems=50, seed=1).problems("train") != few.problems("train")


def test_the_problems_are_fixed_for_good() -> None:
    first = Countdown(problems=20).problems("train")[0]
    assert (first.id, first.answer) == ("19,29,39,57=30", "(39 - 29) * (57 / 19)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"problems": 0}, "problems must be a whole number from 1 on, not 0"),
        ({"least": 5}, "2 to 10, not 5 and 4"),
        ({"low": 9, "high": 8}, "low must not be above high"),
        ({"problems": 100, "least": 2, "most": 2, "high": 2}, "different problems were found"),
        ({"prompt": "{numbers}"}, "must use {numbers} and {target}"),
        ({"prompt": "{"}, "no format string"),
        ({"heldout": 1}, "share between 0 and 1"),
    ],
)
def test_what_is_wrong_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CoveyError, match=message):
        Countdown(**{"problems": 20, **arguments})
