"""The shape annotations of the tensor rooms are checked while the tests run: conftest's hook bites."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from covey.algo import TokenBatch, advantages, preset

REWARDS = torch.tensor([1.0, 0.0, 0.0, 1.0])
GROUP = torch.tensor([0, 0, 1, 1])
LENGTHS = torch.tensor([3, 5, 2, 4])


def test_agreeing_shapes_pass() -> None:
    assert advantages(preset("modern"), REWARDS, GROUP, LENGTHS).shape == (4,)


@pytest.mark.parametrize(
    ("rewards", "group", "lengths"),
    [
        (REWARDS[:3], GROUP, LENGTHS),  # one sequence short
        (REWARDS[:1], GROUP, LENGTHS),  # would broadcast in silence
        (REWARDS[:, None], GROUP, LENGTHS),  # one axis too many
        (REWARDS, GROUP.float(), LENGTHS),  # an index that is no integer
    ],
)
def test_a_function_refuses_a_wrong_shape(
    rewards: torch.Tensor, group: torch.Tensor, lengths: torch.Tensor
) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        advantages(preset("modern"), rewards, group, lengths)


def test_a_dataclass_refuses_a_wrong_shape() -> None:
    tokens = torch.zeros(5)
    with pytest.raises(jaxtyping.TypeCheckError):
        TokenBatch(tokens, None, tokens[:1], None, tokens, torch.zeros(5, dtype=torch.int64))
