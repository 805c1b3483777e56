"""Aggregation as a weight per token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.algo import PRESETS, Algorithm, Choice, token_weights
from covey.algo.aggregation import AGGREGATIONS

LENGTHS, GROUP = torch.tensor([3, 1, 4, 2]), torch.tensor([0, 0, 5, 5])


def weights(name: str, lengths: torch.Tensor, group: torch.Tensor, **params: object) -> torch.Tensor:
    algorithm = Algorithm(Choice("mean"), Choice("clip"), Choice(name, params))
    return token_weights(algorithm, lengths, group, max_length=8, micro_batch=torch.zeros_like(group))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sequence_mean", [1 / 12, 1 / 4, 1 / 16, 1 / 8]),  # 1/(B L_i), B = 4
        ("token_mean", [1 / 10] * 4),  # 3 + 1 + 4 + 2 tokens
        ("prompt_mean", [1 / 8, 1 / 8, 1 / 12, 1 / 12]),  # 1/(P Σ L), P = 2, Σ = 4 and 6
        ("constant_length", [1 / 32] * 4),  # 1/(B · 8)
        ("sequence_sum", [1 / 4] * 4),
        ("token_sum", [1.0] * 4),
        ("local_token_mean", [1 / 10] * 4),  # one micro-batch: the exact token mean
    ],
)
def test_the_weight_of_each_token(name: str, expected: list[float]) -> None:
    torch.testing.assert_close(weights(name, LENGTHS, GROUP), torch.tensor(expected, dtype=torch.float64))


def test_a_constant_length_may_be_given() -> None:
    assert weights("constant_length", LENGTHS, GROUP, length=5).tolist() == [1 / 20] * 4


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), size=st.integers(1, 4))
@pytest.mark.parametrize("name", ["sequence_mean", "token_mean", "prompt_mean", "local_token_mean"])
def test_the_weights_of_a_mean_sum_to_one(name: str, lengths: list[int], size: int) -> None:
    counts = torch.tensor(lengths)
    got = weights(name, counts, torch.arange(len(counts)) // size)
    assert abs((got * counts).sum().item() - 1) < 1e-12


@pytest.mark.parametrize("name", sorted(AGGREGATIONS))
def test_a_sequence_without_tokens_gives_no_infinity(name: str) -> None:
    assert bool(weights(name, torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1])).isfinite().all())


def test_the_local_mean_depends_on_the_split_and_asks_for_it() -> None:
    algorithm = PRESETS["modern"].replace(aggregation="local_token_mean")
    with pytest.raises(ValueError, match="micro_batch"):
        token_weights(algorithm, LENGTHS, GROUP, max_length=8)
    split = torch.tensor([0, 0, 0, 1])
    got = token_weights(algorithm, LENGTHS, GROUP, max_length=8, micro_batch=split)
    assert got.tolist() == [1 / 16, 1 / 16, 1 / 16, 1 / 4]  # 8 tokens and 2 tokens, in 2 parts
