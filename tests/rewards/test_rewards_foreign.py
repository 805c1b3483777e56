"""Functions written for TRL, verl and OpenRLHF, as their users write them, run unchanged."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from covey.rewards.foreign import OpenRLHFReward, VerlReward, reward_of, style_of
from covey.rewards.functions import FunctionReward
from covey.types import Completion, CoveyError, Episode, Problem, Score, StopReason, Turn

PROBLEM = Problem(
    "44+39",
    ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "44 + 39?"}),
    answer="83",
    columns={"data_source": "sums", "level": 3},
)


def group(*texts: str, problem: Problem = PROBLEM) -> list[Episode]:
    return [
        Episode(problem, i, (Turn((1, 2), Completion((3,), (-1.0,), StopReason.END, 0, text)),))
        for i, text in enumerate(texts)
    ]


def graded(function: Callable[..., Any], *texts: str, problem: Problem = PROBLEM) -> list[Score]:
    return list(reward_of(function)(group(*texts, problem=problem)))


# what users write


def trl_reward(completions, answer, log_extra=None, log_metric=None, **kwargs):
    found = [re.search(r"(\d+)\s*$", c[0]["content"]) for c in completions]
    if log_extra:
        log_extra("found", [int(m[1]) if m else None for m in found])
        log_extra("text", [c[0]["content"] for c in completions])
    if log_metric:
        log_metric("parsed", sum(m is not None for m in found) / len(found))
    return [None if m is None else float(m[1] == gold) for m, gold in zip(found, answer, strict=True)]


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    assert data_source == "sums"
    assert extra_info is not None
    answer = solution_str.split("####")[-1].strip()
    return {
        "score": float(answer == ground_truth),
        "acc": answer == ground_truth,
        "level": extra_info["level"],
    }


def plain_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> float:
    return 1.0 if solution_str == ground_truth else 0.1


async def waiting_score(data_source, solution_str, ground_truth, extra_info, **kwargs):
    return float(solution_str == ground_truth)


def reward_func(queries, prompts, labels, **kwargs):
    replies = [query[len(prompt) :] for query, prompt in zip(queries, prompts, strict=True)]
    right = torch.tensor([float(reply == label) for reply, label in zip(replies, labels, strict=True)])
    lengths = torch.tensor([float(len(reply)) for reply in replies])
    return {"rewards": right * 2 - 1, "scores": right, "extra_logs": {"length": lengths}}


def tensor_func(queries, prompts, labels):
    return torch.tensor([float(query.endswith(label)) for query, label in zip(queries, labels, strict=True)])


def test_the_style_is_told_from_the_names() -> None:
    assert [style_of(f) for f in (trl_reward, len)] == ["trl"] * 2
    assert [style_of(f) for f in (compute_score, plain_score, waiting_score)] == ["verl"] * 3
    assert [style_of(f) for f in (reward_func, tensor_func)] == ["openrlhf"] * 2
    assert isinstance(reward_of(trl_reward), FunctionReward)
    assert isinstance(reward_of(compute_score), VerlReward)
    assert isinstance(reward_of(reward_func), OpenRLHFReward)


def test_a_style_that_is_given_goes_first() -> None:
    def f(**kwargs):
        return float(kwargs["solution_str"] == kwargs["ground_truth"])

    assert [s.value for s in reward_of(f, "verl")(group("83", "84"))] == [1.0, 0.0]
    with pytest.raises(CoveyError, match="one of trl, verl, openrlhf, not 'grpo'"):
        reward_of(f, "grpo")  # type: ignore[arg-type]


def test_trl_with_its_logs() -> None:
    right, wrong, silent = graded(trl_reward, "44+39 = 83", "84", "?")
    assert right == Score(1.0, {"found": 83.0, "parsed": pytest.approx(2 / 3)})
    assert wrong == Score(0.0, {"found": 84.0, "parsed": pytest.approx(2 / 3)})
    assert silent == Score(None, {"parsed": pytest.approx(2 / 3)}, "trl_reward returned None: not scored")


def test_trl_extras_are_there_for_those_who_name_them() -> None:
    def f(completions, trainer_state, environments, log_metric):
        log_metric("n", np.float32(2))
        log_metric("text", "two")
        assert trainer_state is None
        assert environments is None
        return [1.0] * len(completions)

    assert graded(f, "a", "b") == [Score(1.0, {"n": 2.0}), Score(1.0, {"n": 2.0})]


def test_verl_a_mapping_keeps_its_numbers() -> None:
    assert graded(compute_score, "so #### 83", "83", "#### 84") == [
        Score(1.0, {"level": 3.0}),  # acc is a truth value, no number
        Score(1.0, {"level": 3.0}),
        Score(0.0, {"level": 3.0}),
    ]


def test_verl_a_number_and_a_coroutine() -> None:
    assert graded(plain_score, "83", "84") == [Score(1.0), Score(0.1)]
    assert graded(waiting_score, "83", "84") == [Score(1.0), Score(0.0)]


def test_verl_reads_its_own_data_columns() -> None:
    seen: list[Any] = []

    def compute(data_source, solution_str, ground_truth, extra_info):
        seen.append((data_source, solution_str, ground_truth, extra_info))
        extra_info["index"] = 99  # its own to change
        return 0.5

    columns = {
        "data_source": "gsm8k",
        "reward_model": {"style": "rule", "ground_truth": ["83", "eighty-three"]},
        "extra_info": {"index": 7},
    }
    problem = Problem("p", PROBLEM.messages, None, columns)
    graded(compute, "x", "y", problem=problem)
    assert seen[0] == ("gsm8k", "x", ["83", "eighty-three"], {"index": 99})
    assert columns["extra_info"] == {"index": 7}


def test_openrlhf_gets_queries_that_begin_with_their_prompts() -> None:
    seen: dict[str, Any] = {}

    def f(queries, prompts, labels):
        seen.update(queries=queries, prompts=prompts, labels=labels)
        return [1.0, 0.0]

    assert graded(f, "83", "84") == [Score(1.0), Score(0.0)]
    assert seen == {
        "queries": ["Be brief.\n\n44 + 39?\n\n83", "Be brief.\n\n44 + 39?\n\n84"],
        "prompts": ["Be brief.\n\n44 + 39?\n\n"] * 2,
        "labels": ["83", "83"],
    }


def test_openrlhf_tensors_and_mappings() -> None:
    assert graded(tensor_func, "83", "84") == [Score(1.0), Score(0.0)]
    assert graded(reward_func, "83", "840") == [
        Score(1.0, {"scores": 1.0, "length": 2.0}),
        Score(-1.0, {"scores": 0.0, "length": 3.0}),
    ]


@pytest.mark.parametrize(
    ("returned", "why"),
    [
        ({"acc": 1.0}, "without 'score'"),
        ({"score": None}, "returned None: not scored"),
        ({"score": float("nan")}, "returned nan"),
        ("1.0", "returned str, not a number"),
        (None, "returned None: not scored"),
    ],
)
def test_verl_what_is_no_number_is_not_scored(returned: Any, why: str) -> None:
    (score,) = reward_of(lambda data_source, solution_str, ground_truth, extra_info: returned)(group("83"))
    assert score.value is None
    assert why in str(score.error)


@pytest.mark.parametrize(
    ("returned", "why"),
    [
        ({"scores": [1.0, 1.0]}, "without 'rewards'"),
        ({"rewards": [1.0]}, "returned 1 scores for 2 completions"),
        (torch.tensor(1.0), "returned Tensor for 2 completions"),
        (None, "returned NoneType for 2 completions"),
        ([float("inf"), None], "returned"),
    ],
)
def test_openrlhf_what_is_no_series_of_numbers_is_not_scored(returned: Any, why: str) -> None:
    scores = reward_of(lambda queries, prompts, labels: returned)(group("83", "84"))
    assert all(s.value is None and why in str(s.error) for s in scores)


def test_what_raises_is_not_scored_and_says_where() -> None:
    def compute(data_source, solution_str, ground_truth, extra_info):
        return 1 / int(solution_str)

    def batch(queries, prompts, labels):
        raise KeyError("label")

    scores = graded(compute, "1", "0")
    assert scores[0] == Score(1.0)
    assert re.fullmatch(
        r"compute raised ZeroDivisionError: .* \(test_rewards_foreign.py:\d+\)", str(scores[1].error)
    )
    assert all("batch raised KeyError: 'label'" in str(s.error) for s in graded(batch, "1", "0"))
