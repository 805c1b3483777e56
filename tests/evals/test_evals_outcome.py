"""From evaluations to a summary's figures, of the whole and of each part of a mixture."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from covey.evals.evaluate import difference, summary
from covey.evals.outcome import by_part, measured, outcome
from covey.types import Answer, Evaluation, Score, StopReason


def evaluation(step: int, values: Mapping[str, float | None]) -> Evaluation:
    answers = tuple(
        Answer(problem, (Score(value),), ("",), ((1,),), (StopReason.END,))
        for problem, value in values.items()
    )
    return Evaluation(step, greedy=answers, sampled=answers)


BEFORE = evaluation(0, {"sums/1": 0.0, "sums/2": 0.0, "sums/3": 1.0, "sum/1": None})
AFTER = evaluation(4, {"sums/1": 1.0, "sums/2": 0.0, "sums/3": 1.0, "sum/1": None})


def test_nothing_comes_of_no_evaluation() -> None:
    assert outcome([]) == {}


def test_first_and_last_are_compared() -> None:
    found = outcome([BEFORE, evaluation(2, {}), AFTER])
    assert found["before"] == summary(BEFORE)
    assert found["after"] == summary(AFTER)
    change = difference(BEFORE.greedy, AFTER.greedy)
    assert found["difference"]["greedy"] == {"mean": 1 / 3, "low": change.low, "high": change.high}
    assert "parts" not in found


def test_a_part_has_its_own_problems_and_no_others() -> None:
    parts = by_part(BEFORE, ("sums", "sum", "none"))
    assert {label: len(part.greedy) for label, part in parts.items()} == {"sums": 3, "sum": 1}


def test_each_part_is_measured_by_itself() -> None:
    found = outcome([BEFORE, AFTER], ("sums", "sum"))["parts"]
    assert list(found) == ["sums", "sum"]
    assert found["sums"]["after"]["greedy"]["mean"] == pytest.approx(2 / 3)
    assert found["sums"]["difference"]["sampled"]["mean"] == pytest.approx(1 / 3)
    assert found["sum"]["difference"] == {}  # none of its problems was ever scored
    assert found["sum"]["before"]["unscored"] == 2
    assert measured(AFTER, ("sums",))["parts"] == {"sums": found["sums"]["after"]}
    assert "parts" not in measured(AFTER)
