"""The fused layers against `transformers` own, and sampling in bf16 against learning in bf16."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from covey import kernels
from covey.engines import LocalEngine
from covey.kernels.packed import in_c
from covey.kernels.stack import Cells, Stack
from covey.learn import Optimizer, Schedule
from covey.models import Policy, chosen_logprobs, dense, fused, load_policy
from covey.models.dense import FAMILIES, dense_of
from covey.models.weights import computed_with, to_compute_with
from covey.types import DrawKey, Request, Sampling

pytestmark = pytest.mark.skipif(kernels.why_not() is not None, reason=f"no kernels: {kernels.why_not()}")

Build = Callable[..., Policy]


def gradients(policy: Policy, *, clear: bool = True) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(log-probs, entropies, gradients) of a tree of two prompts with a stem."""
    tree = policy.tree([12, 10], [[5, 3], [6]], stem=8)
    generator = torch.Generator().manual_seed(0)
    tokens = len(tree.positions)
    ids, chosen = (torch.randint(0, 90, (tokens,), generator=generator) for _ in range(2))
    logp, entropy = chosen_logprobs(policy, policy.hidden(ids, tree, tree.positions), chosen, 0.8)
    (logp @ torch.randn(tokens, generator=generator) + entropy.sum() / 7).backward()
    found = {name: p.grad.clone() for name, p in policy.parameters() if p.grad is not None}
    if clear:
        policy.module.zero_grad()
    return logp.detach(), entropy.detach(), found


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_values_and_gradients_are_the_plain_path_s(
    build: Build, monkeypatch: pytest.MonkeyPatch, family: str, tied: bool
) -> None:
    policy = build(family, tied)
    assert policy.dense is not None
    logp, entropy, fused = gradients(policy)
    monkeypatch.setattr(kernels, "usable", lambda *tensors: False)
    plain_logp, plain_entropy, plain = gradients(policy)
    assert torch.allclose(logp, plain_logp, atol=2e-5)
    assert torch.allclose(entropy, plain_entropy, atol=2e-5)
    assert fused.keys() == plain.keys()
    for name, gradient in plain.items():
        assert gradient.norm() > 0
        assert (fused[name] - gradient).norm() / gradient.norm() < 1e-5, name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_sampled_and_learned_log_probs_agree(family: str, dtype: str) -> None:
    """Prefill, one token at a time, and all at once: the same sums in the same order. Where a matrix product
    is split by its number of rows, or isn't the same library's, values may round otherwise; usual elsewhere
    are 0.01 to 0.04 nats in bf16."""
    policy = load_policy({"family": family, "seed": 3, "hidden_size": 64, "layers": 3}, dtype=dtype)
    prompt = policy.chat.prompt([{"role": "user", "content": "12+34=?"}])
    asked = [Request(prompt, Sampling(20), DrawKey(0, 0, "a", sample)) for sample in range(8)]
    done = [c for _, c in sorted(LocalEngine(policy).generate(asked))]
    tree = policy.tree([len(prompt)], [[len(c.token_ids) for c in done]])
    ids = torch.tensor([*prompt, *(t for c in done for t in c.token_ids)])
    with torch.enable_grad():
        hidden = policy.hidden(ids, tree, tree.positions)
        before = torch.cat([torch.cat([tree.last_of_prompt, places[:-1]]) for places in tree.reply_tokens])
        chosen = torch.tensor([t for c in done for t in c.token_ids])
        logp, _ = chosen_logprobs(policy, hidden[before], chosen)
    sampled = torch.tensor([x for c in done if c.sampler_logp for x in c.sampler_logp])
    assert (logp.detach() - sampled).abs().mean() < (1e-3 if dtype == "bfloat16" else 1e-6)


IN_C = [
    pytest.param(name, marks=pytest.mark.skipif(not in_c(dtype), reason="C can't multiply with the layout"))
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
]


@pytest.mark.parametrize("dtype", IN_C)
@pytest.mark.parametrize("family", [*sorted(FAMILIES), "mistral-window"])
def test_a_step_in_one_call_has_the_bits_of_one_kernel_after_the_other(
    build: Build, monkeypatch: pytest.MonkeyPatch, family: str, dtype: str
) -> None:
    policy = build(family, False, dtype)
    prompts = [policy.chat.prompt([{"role": "user", "content": text}]) for text in ("12+34=?", "What is 1?")]
    asked = [
        Request(ids, Sampling(25 - sample), DrawKey(0, 0, str(len(ids)), sample))
        for ids in prompts
        for sample in range(3)
    ]

    def sampled() -> list[tuple[tuple[int, ...], tuple[float, ...] | None]]:
        policy.dense = dense_of(policy.module)
        done = sorted(LocalEngine(policy, slots=5).generate(asked))
        return [(c.token_ids, c.sampler_logp) for _, c in done]

    taken: list[int] = []
    step = Stack.__call__

    def counted(stack: Stack, x: Tensor, cos: Tensor, sin: Tensor, cells: Cells) -> Tensor:
        taken.append(len(x))
        return step(stack, x, cos, sin, cells)

    monkeypatch.setattr(Stack, "__call__", counted)
    at_once = sampled()
    assert max(taken) == 5
    monkeypatch.setattr(dense, "stacks", lambda packed: False)
    taken.clear()
    assert sampled() == at_once
    assert not taken


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_fp32_gradients_are_added_where_they_are_made(family: str) -> None:
    """Over two passes, against autograd's, which makes each and adds it afterwards."""
    policy = load_policy({"family": family, "seed": 3}, dtype="float32")
    optimizer = Optimizer(policy, Schedule(0.1))
    plain = load_policy({"family": family, "seed": 3}, dtype="float32")
    gradients(policy, clear=False)
    places = {name: gradient.data_ptr() for name, gradient in optimizer.gradients().items()}
    for one in (policy, plain, plain):
        gradients(one, clear=False)
    gathered = optimizer.gradients()
    assert gathered.keys() == policy.master.keys()
    for name, parameter in plain.parameters():
        assert parameter.grad is not None
        # another order of the same sums, each rounded by 2^-24
        apart = 1e-5 * parameter.grad.abs().max().item()
        torch.testing.assert_close(gathered[name], parameter.grad, rtol=0, atol=apart)
        assert gathered[name].data_ptr() == places[name]
    # and autograd is handed none of a matrix that gathers
    matrix = policy.module.model.layers[0].mlp.down_proj.weight
    dy, x = torch.ones(3, len(matrix)), torch.ones(3, matrix.shape[1])
    total = gathered["model.layers.0.mlp.down_proj.weight"]
    before = total.clone()
    assert fused.gathered(matrix, dy, x) is None
    torch.testing.assert_close(total, before + 3.0)  # 3 rows of 1 · 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_frozen_matrix_gathers_nothing(dtype: str) -> None:
    policy = load_policy({"family": "llama", "seed": 3}, dtype=dtype)
    optimizer = Optimizer(policy, Schedule(0.1))
    for _, parameter in policy.parameters():
        parameter.requires_grad_(parameter.dim() == 1)
    gradients(policy, clear=False)
    assert optimizer.gradients().keys() == {n for n, p in policy.parameters() if p.dim() == 1}


@pytest.mark.skipif(not in_c(torch.bfloat16), reason="the processor has no bf16 products for kernels in C")
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_matrices_gather_their_gradients_in_fp32(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over two passes, against gradients that are each rounded to bf16 before they are added."""
    policy = load_policy({"family": family, "seed": 3}, dtype="bfloat16")
    optimizer = Optimizer(policy, Schedule(0.1))
    for _ in range(2):
        gradients(policy)
    gathered = optimizer.gradients()
    optimizer.clear()
    monkeypatch.setattr(fused, "in_panels", lambda dtype: False)
    for _ in range(2):
        gradients(policy)
    rounded = optimizer.gradients()
    assert gathered.keys() == rounded.keys() == policy.master.keys()
    for name, gradient in rounded.items():
        assert gradient.norm() > 0
        apart = ((gathered[name] - gradient).norm() / gradient.norm()).item()
        # a rounding moves a value by up to 2^-9 of it; a vector's own values are as they were
        assert 0 < apart < 2**-8 if gradient.dim() == 2 else apart == 0, name


def test_what_is_laid_out_follows_every_update() -> None:
    policy = load_policy({"family": "qwen3", "seed": 3}, dtype="bfloat16")
    assert policy.dense is not None
    optimizer = Optimizer(policy, Schedule(0.1))
    assert computed_with(policy) == to_compute_with(policy)
    before = dict(policy.dense.unpacked())
    gradients(policy)
    for master in policy.master.values():
        master.grad = torch.ones_like(master)
    optimizer.step(0, 1.0)
    assert computed_with(policy) == to_compute_with(policy)
    after = dict(policy.dense.unpacked())
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)
