"""The micro-batch that a memory budget allows, against the bytes that autograd really keeps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from covey.learn import Footprint, footprint
from covey.models import Policy, chosen_logprobs, load_policy
from covey.models.logprobs import CHUNK_BYTES

SHAPES = {
    "hidden 256": {"hidden_size": 256, "layers": 4, "intermediate_size": 768},
    "deep and thin": {"hidden_size": 64, "layers": 6, "intermediate_size": 256},
    "many heads": {"hidden_size": 128, "layers": 2, "heads": 8, "kv_heads": 8, "intermediate_size": 512},
}


def kept_bytes(policy: Policy, prompts: list[int], replies: list[list[int]]) -> int:
    """What the graph of a forward pass holds on to, weights aside; each storage once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in policy.module.parameters()}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is used twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    tree = policy.tree(prompts, replies)
    ids = torch.arange(sum(prompts) + sum(map(sum, replies))) % 90 + 3
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        hidden = policy.hidden(ids, tree, tree.positions)
        places = torch.cat(tree.reply_tokens)
        chosen_logprobs(policy, hidden[places], ids[places])
    return sum(kept.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "gpt2", "mistral"])
def test_the_estimate_is_within_half_of_what_is_kept(family: str, shape: str, dtype: str) -> None:
    policy = load_policy({"family": family, **SHAPES[shape]}, dtype=dtype)
    for prompt, reply, groups, size in ((20, 16, 4, 8), (40, 4, 4, 8), (20, 100, 2, 4)):
        tokens = groups * (prompt + size * reply)
        kept = kept_bytes(policy, [prompt] * groups, [[reply] * size] * groups) / tokens
        estimate = footprint(policy, longest=prompt + reply).per_token
        assert 1 / 1.5 < estimate / kept < 1.5


def test_weights_are_masters_gradients_moments_and_the_copy() -> None:
    config = {"family": "llama", "hidden_size": 64}
    count = sum(p.numel() for p in load_policy(config).module.parameters())
    # 4 bytes each of master, gradient and two moments; 2 more of the bf16 copy
    assert footprint(load_policy(config, dtype="float32"), longest=9).weights == 16 * count
    assert footprint(load_policy(config, dtype="bfloat16"), longest=9).weights == 18 * count


@given(
    per_token=st.integers(1_000, 10_000_000),
    words=st.integers(100, 200_000),
    head=st.integers(0, 2**30),
    budget=st.integers(0, 2**35),
)
def test_the_budget_is_used_and_kept(per_token: int, words: int, head: int, budget: int) -> None:
    """The number of tokens is the largest that fits, but at least one sequence always runs."""
    cost = Footprint(weights=0, per_token=per_token, logits=16 * words, head=head, chunk=4 * CHUNK_BYTES)
    tokens = cost.tokens(float(budget))
    assert tokens >= 1
    assert tokens == 1 or cost.activations(tokens) <= budget
    assert cost.activations(tokens + 1) > budget


def test_logits_never_take_more_than_a_chunk() -> None:
    cost = Footprint(weights=0, per_token=0, logits=16 * 49_152, head=0, chunk=4 * CHUNK_BYTES)
    # 4 bytes × 49,152 words: 341 tokens fill a chunk of 64 MiB, of which there are four copies
    assert cost.activations(341) == 341 * 16 * 49_152
    assert cost.activations(342) == cost.activations(10**6) == 4 * CHUNK_BYTES
