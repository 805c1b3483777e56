"""Advantages: the published numbers, and what must hold for any rewards."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.algo import PRESETS, Algorithm, Choice, advantages
from covey.algo.advantage import ADVANTAGES
from covey.algo.credit import gdpo, process_supervision, sum_then_normalise

CENTRED = [
    "mean",
    "mean_std",
    "batch_reward_std",
    "batch_advantage_std",
    "leave_one_out",
    "centre_whiten",
    "gpg",
]
SHIFT_INVARIANT = [name for name in ADVANTAGES if name not in ("gpg", "max_rl", "none")]


def of(
    name: str,
    rewards: list[float],
    size: int | None = None,
    lengths: list[int] | None = None,
    **params: Any,
) -> torch.Tensor:
    r = torch.tensor(rewards, dtype=torch.float64)
    group = torch.arange(len(r)) // (size or len(r))
    algorithm = Algorithm(Choice(name, params), Choice("nll"), Choice("token_mean"))
    return advantages(algorithm, r, group, torch.tensor(lengths or [3] * len(r)))


groups = st.integers(2, 4).flatmap(
    lambda size: st.lists(
        st.lists(st.sampled_from([-1.0, -0.1, 0.0, 0.1, 0.3, 1.0]), min_size=size, max_size=size),
        min_size=1,
        max_size=4,
    )
)


@pytest.mark.parametrize(
    ("name", "params", "first", "rest"),
    [
        ("mean", {}, 0.75, -0.25),
        ("mean_std", {"ddof": 1, "eps": 1e-4}, 0.75 / 0.5001, -0.25 / 0.5001),  # std(ddof 1) = 0.5
        ("mean_std", {"ddof": 0, "eps": 0.0}, 3**0.5, -(3**-0.5)),  # std(ddof 0) = √3/4
        ("leave_one_out", {}, 1.0, -1 / 3),
        ("leave_one_out_std", {"eps": 0.0}, 1.0, -(3**-0.5)),  # the others of the first are all 0
        ("max_rl", {"eps": 0.0}, 3.0, -1.0),
        ("gpg", {}, 3.0, -1.0),  # α = 4/1
        ("whiten", {"eps": 0.0}, 3**0.5, -(3**-0.5)),
        ("none", {}, 1.0, 1.0),
    ],
)  # fmt: skip
def test_one_right_of_four(name: str, params: dict[str, Any], first: float, rest: float) -> None:
    got = of(name, [1, 0, 0, 0], **params)
    torch.testing.assert_close(got, torch.tensor([first, rest, rest, rest], dtype=torch.float64))


def test_opo_weighs_the_baseline_by_length() -> None:
    # baseline = (1·4 + 0·12) / 16 = 0.25 of lengths 4, 12; the plain mean would be 0.5
    assert of("opo", [1, 0], lengths=[4, 12]).tolist() == [0.75, -0.25]


def test_batch_deviation_of_rewards_is_not_that_of_advantages() -> None:
    rewards = [1.0, 0.0, 3.0, 2.0]  # centred ±0.5; raw std (ddof 0) = √1.25
    raw = of("batch_reward_std", rewards, 2, ddof=0, eps=0.0)
    centred = of("batch_advantage_std", rewards, 2, ddof=0, eps=0.0)
    torch.testing.assert_close(raw[0].item(), 0.5 / math.sqrt(1.25))
    torch.testing.assert_close(centred[0].item(), 1.0)


def test_whitening_over_tokens_counts_a_long_sequence_more() -> None:
    # centred ±0.5 with 3 and 1 tokens: mean 0.25, so (0.25, -0.75)/√(0.75/3)
    got = of("centre_whiten", [1, 0], lengths=[3, 1], over="tokens", eps=0.0)
    torch.testing.assert_close(got, torch.tensor([0.5, -1.5], dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(set(ADVANTAGES) - {"none", "whiten"}))
@pytest.mark.parametrize("value", [0.1, 1 / 3, -0.7])
def test_equal_rewards_give_exactly_zero(name: str, value: float) -> None:
    """Also where their mean rounds (3 · 0.1 / 3 is not 0.1), and where eps is no help."""
    assert of(name, [value] * 6, 3).tolist() == [0.0] * 6
    if name != "max_rl":  # a mean of 0 is its own case
        assert of(name, [value] * 3 + [0.0, 0.5, 1.0], 3)[:3].tolist() == [0.0] * 3


@pytest.mark.parametrize("name", ["mean_std", "batch_reward_std", "batch_advantage_std", "leave_one_out_std"])
def test_without_eps_nothing_is_divided_by_zero(name: str) -> None:
    assert of(name, [0.1] * 6, 3, eps=0.0).tolist() == [0.0] * 6


@pytest.mark.parametrize("name", sorted(set(ADVANTAGES) - {"none", "whiten"}))
def test_a_group_of_one_has_no_signal(name: str) -> None:
    assert of(name, [1.0]).tolist() == [0.0]


@pytest.mark.parametrize("name", CENTRED)
@settings(max_examples=25)
@given(rewards=groups)
def test_centred_advantages_sum_to_zero_in_a_group(name: str, rewards: list[list[float]]) -> None:
    got = of(name, [r for g in rewards for r in g], len(rewards[0]))
    sums = got.view(len(rewards), -1).sum(1)
    assert sums.abs().max() <= 1e-9 * max(1.0, got.abs().max().item())


@pytest.mark.parametrize("name", SHIFT_INVARIANT)
@settings(max_examples=25)
@given(rewards=groups)
def test_a_constant_added_to_all_rewards_changes_nothing(name: str, rewards: list[list[float]]) -> None:
    flat = [r for g in rewards for r in g]
    shifted = of(name, [r + 8 for r in flat], len(rewards[0]))
    torch.testing.assert_close(shifted, of(name, flat, len(rewards[0])), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
@settings(max_examples=25)
@given(data=st.data(), rewards=groups)
def test_the_order_of_sequences_does_not_matter(
    name: str, data: st.DataObject, rewards: list[list[float]]
) -> None:
    """Groups may be interleaved and numbered at will; each sequence keeps its advantage."""
    if name == "max_rl":
        rewards = [[float(r > 0) for r in g] for g in rewards]
    flat = torch.tensor([r for g in rewards for r in g], dtype=torch.float64)
    group = torch.arange(len(flat)) // len(rewards[0]) * 7 + 3
    lengths = torch.arange(len(flat)) % 5 + 1
    order = torch.tensor(data.draw(st.permutations(range(len(flat)))))
    algorithm = Algorithm(Choice(name), Choice("nll"), Choice("token_mean"))
    straight = advantages(algorithm, flat, group, lengths)
    moved = advantages(algorithm, flat[order], group[order], lengths[order])
    torch.testing.assert_close(moved, straight[order], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_a_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="reward of sequence 1 is"):
        advantages(PRESETS["grpo"], torch.tensor([1.0, bad]), torch.zeros(2).long(), torch.ones(2).long())


def test_gdpo_keeps_what_a_summed_reward_loses() -> None:
    """Group 1 differs in the wide objective only, group 2 in the narrow one only: once normalised
    each by itself, both count the same; summed, the narrow one is told apart from the wide."""
    rewards = torch.tensor([[9.0, 1.0], [0.0, 1.0], [9.0, 1.0], [9.0, 0.0]], dtype=torch.float64)
    group, lengths = torch.tensor([0, 0, 1, 1]), torch.ones(4).long()
    even = torch.ones(2, dtype=torch.float64)
    got = gdpo(rewards, group, lengths, even)
    torch.testing.assert_close(got[0], got[2], rtol=1e-3, atol=0)
    assert got[0] == -got[1]
    summed = sum_then_normalise(rewards, group, lengths, even)
    torch.testing.assert_close(summed[0], torch.tensor(4.5 / (40.5**0.5 + 1e-4), dtype=torch.float64))


def test_a_steps_reward_reaches_the_tokens_up_to_its_end() -> None:
    # rewards 1, 0 and 0: mean 1/3, std (ddof 0) √2/3, so √2, -1/√2, -1/√2
    got = process_supervision(
        torch.tensor([1.0, 0.0, 0.0]),
        step_end=torch.tensor([0, 2, 1]),
        step_sequence=torch.tensor([0, 0, 1]),
        group=torch.tensor([0, 0, 0]),
        lengths=torch.tensor([3, 3, 0]),
        ddof=0,
    )
    root, half = 2**0.5, -(2**-0.5)
    torch.testing.assert_close(got, torch.tensor([root + half, half, half, half, half, 0.0]))


@settings(max_examples=25)
@given(rewards=groups, data=st.data())
def test_one_reward_at_the_end_is_outcome_supervision(
    rewards: list[list[float]], data: st.DataObject
) -> None:
    flat = torch.tensor([r for g in rewards for r in g], dtype=torch.float64)
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, 4), min_size=len(flat), max_size=len(flat))))
    group = torch.arange(len(flat)) // len(rewards[0])
    tokens = process_supervision(flat, lengths - 1, torch.arange(len(flat)), group, lengths, eps=1e-4)
    outcome = of("mean_std", flat.tolist(), len(rewards[0]))
    torch.testing.assert_close(tokens, outcome.repeat_interleave(lengths), rtol=0, atol=1e-10)
