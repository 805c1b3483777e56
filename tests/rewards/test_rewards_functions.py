"""Own functions as rewards: what they are given, and what their failures become."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from covey.protocols import Reward
from covey.rewards.functions import from_function, per_text
from covey.types import Completion, CoveyError, Episode, Problem, StopReason, Turn

PROBLEM = Problem(
    "44+39", ({"role": "user", "content": "44 + 39?"},), answer="83", columns={"level": 3, "tags": ["easy"]}
)


def group(*texts: str, problem: Problem = PROBLEM) -> list[Episode]:
    return [
        Episode(problem, i, (Turn((1, 2), Completion((3, 4 + i), (-1.0, -1.0), StopReason.END, 0, text)),))
        for i, text in enumerate(texts)
    ]


def values(reward: Reward, episodes: list[Episode]) -> list[float | None]:
    return [score.value for score in reward(episodes)]


def errors(function: Callable[..., Any], count: int = 2) -> list[str | None]:
    scores = from_function(function)(group(*["83"] * count))
    assert all(score.value is None for score in scores)
    return [score.error for score in scores]


def test_a_function_with_keywords_gets_everything_as_lists() -> None:
    seen: dict[str, Any] = {}

    def keep(**columns: Any) -> list[float]:
        seen.update(columns)
        return [1.0, 0.0]

    assert values(from_function(keep), group("83", "no")) == [1.0, 0.0]
    assert seen == {
        "prompts": [[{"role": "user", "content": "44 + 39?"}]] * 2,
        "completions": [[{"role": "assistant", "content": "83"}], [{"role": "assistant", "content": "no"}]],
        "completion_ids": [[3, 4], [3, 5]],
        "answer": ["83", "83"],
        "level": [3, 3],
        "tags": [["easy"], ["easy"]],
    }


def test_a_function_without_keywords_gets_what_it_names() -> None:
    def right(completions, answer, level=()):
        return [(c[0]["content"] == a) * n for c, a, n in zip(completions, answer, level, strict=True)]

    assert values(from_function(right), group("83", "82")) == [3.0, 0.0]


def test_an_annotation_or_plain_asks_for_strings() -> None:
    def annotated(prompts, completions: list[str]):
        return [float((p, c) == ("44 + 39?", "83")) for p, c in zip(prompts, completions, strict=True)]

    def bare(completions):
        return [float(c == "83") for c in completions]

    def messages(completions: list[list[dict[str, str]]]):
        return [float(c[0]["content"] == "83") for c in completions]

    assert values(from_function(annotated), group("83", "x")) == [1.0, 0.0]
    assert values(from_function(bare, plain=True), group("83", "x")) == [1.0, 0.0]
    assert values(from_function(bare), group("83", "x")) == [0.0, 0.0]
    assert values(from_function(messages), group("83", "x")) == [1.0, 0.0]
    assert values(from_function(annotated, plain=False), group("83", "x")) == [0.0, 0.0]


def test_the_rows_own_answer_column_goes_before_its_text() -> None:
    problem = Problem("p", PROBLEM.messages, answer="83", columns={"answer": 83, "completions": "mine"})

    def same(completions, answer):
        return [float(answer == [83] and c[0]["content"] == "83") for c in completions]

    assert values(from_function(same), group("83", problem=problem)) == [1.0]


def test_a_function_may_be_async_a_method_a_partial_or_an_object() -> None:
    class Grader:
        def method(self, completions):
            return [1.0] * len(completions)

        async def __call__(self, completions):
            await asyncio.sleep(0)
            return [2.0] * len(completions)

    async def later(completions, **_):
        await asyncio.sleep(0)
        return [3.0] * len(completions)

    def scaled(completions, scale):
        return [scale] * len(completions)

    for function, value in (
        (Grader().method, 1.0),
        (Grader(), 2.0),
        (later, 3.0),
        (functools.partial(scaled, scale=4.0), 4.0),
    ):
        assert values(from_function(function), group("a", "b")) == [value, value]


def test_an_async_function_works_inside_a_running_loop() -> None:
    async def later(completions):
        return [1.0] * len(completions)

    async def notebook() -> list[float | None]:
        return values(from_function(later), group("a"))

    assert asyncio.run(notebook()) == [1.0]


def test_what_is_no_finite_number_is_not_scored_and_costs_only_its_episode() -> None:
    returned = [
        1,
        True,
        Fraction(1, 2),
        np.float32(0.25),
        np.bool_(False),
        None,
        math.nan,
        math.inf,
        "1",
        1j,
        [1.0],
    ]

    def mixed(completions):
        return returned

    scores = from_function(mixed)(group(*["x"] * len(returned)))
    assert [score.value for score in scores] == [1.0, 1.0, 0.5, 0.25, 0.0] + [None] * 6
    assert [score.error for score in scores[5:]] == [
        "mixed returned None: not scored",
        "mixed returned nan",
        "mixed returned inf",
        "mixed returned str, not a number",
        "mixed returned complex, not a number",
        "mixed returned list, not a number",
    ]
    assert all(score.error is None for score in scores[:5])


def test_an_exception_is_the_groups_and_names_its_place() -> None:
    def broken(completions):
        raise ValueError("no such thing\nsecond line")

    line = broken.__code__.co_firstlineno + 1
    message = f"broken raised ValueError: no such thing (test_rewards_functions.py:{line})"
    assert errors(broken) == [message, message]


def test_a_traceback_begins_with_the_graders_own_code() -> None:
    def broken(completions):
        return deeper()

    def deeper() -> list[float]:
        raise ValueError("no")

    [score] = from_function(broken)(group("a"))
    assert score.fault is not None
    trace = score.fault.trace or ""
    assert "in broken" in trace
    assert "in deeper" in trace
    assert "covey/rewards" not in trace


@pytest.mark.parametrize(
    "failure", [SystemExit(3), RecursionError("deep"), MemoryError(), asyncio.CancelledError()]
)
def test_no_way_of_failing_ends_the_run(failure: BaseException) -> None:
    def broken(completions):
        raise failure

    assert all(str(error).startswith(f"broken raised {type(failure).__name__}") for error in errors(broken))


def test_an_async_exception_is_caught_like_any_other() -> None:
    async def broken(completions):
        raise KeyError("level")

    assert str(errors(broken)[0]).startswith("broken raised KeyError: 'level' (test_rewards_functions.py:")


def test_a_keyboard_interrupt_passes() -> None:
    def stopped(completions):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        from_function(stopped)(group("83"))


def test_a_long_message_is_cut() -> None:
    def broken(completions):
        raise ValueError("x" * 10_000)

    assert len(str(errors(broken)[0])) < 400


def test_the_wrong_number_of_scores_scores_nothing() -> None:
    def short(completions):
        return [1.0]

    def endless(completions) -> Iterator[float]:
        while True:
            yield 1.0

    assert errors(short) == ["short returned 1 scores for 2 completions"] * 2
    assert errors(endless) == ["endless returned more than 2 scores for 2 completions"] * 2


@pytest.mark.parametrize("returned", [None, 1.0, "11", {0: 1.0, 1: 1.0}, {1.0, 2.0}])
def test_what_is_no_list_scores_nothing(returned: object) -> None:
    def odd(completions):
        return returned

    assert errors(odd) == [f"odd returned {type(returned).__name__}, not a list of scores"] * 2


def test_any_series_of_scores_will_do() -> None:
    for returned in ((1.0, 0.0), np.array([1.0, 0.0]), (x for x in (1.0, 0.0))):

        def series(completions, returned=returned):
            return returned

        assert values(from_function(series), group("a", "b")) == [1.0, 0.0]


def test_a_missing_column_says_which_there_are() -> None:
    def needs(completions, levels):
        return [1.0]

    reward = from_function(needs)
    message = (
        "reward needs needs a column 'levels' that problem 44+39 doesn't have. Did you mean 'level'? "
        "There are: prompts, completions, completion_ids, answer, level, tags"
    )
    with pytest.raises(CoveyError) as caught:
        reward.check(PROBLEM)
    assert str(caught.value) == message
    assert [score.error for score in reward(group("83"))] == [message]


def test_a_function_that_changes_its_arguments_changes_nothing_else() -> None:
    def vandal(prompts, completions, tags):
        prompts[0][0]["content"] = "changed"
        tags[0].append("changed")
        return [1.0, float(tags[1] == ["easy"] and prompts[1][0]["content"] == "44 + 39?")]

    assert values(from_function(vandal), group("a", "b")) == [1.0, 1.0]
    assert PROBLEM.columns["tags"] == ["easy"]
    assert PROBLEM.messages[0]["content"] == "44 + 39?"


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(CoveyError, match="a reward must be a function, not str"):
        from_function("number")  # pyright: ignore[reportArgumentType]


def test_per_text_scores_each_reply_by_itself() -> None:
    def starts(text: str, answer: str | None) -> float | None:
        return None if text == "" else 1.0 / (text[0] == (answer or "")[0])

    scores = per_text(starts)(group("83", "", "no", "8"))
    assert [score.value for score in scores] == [1.0, None, None, 1.0]
    assert scores[1].error == "starts returned None: not scored"
    assert str(scores[2].error).startswith("starts raised ZeroDivisionError")


def test_per_text_may_be_async() -> None:
    async def same(text: str, answer: str | None) -> float:
        return float(text == answer)

    assert values(per_text(same), group("83", "82")) == [1.0, 0.0]
