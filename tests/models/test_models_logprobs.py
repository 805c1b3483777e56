"""``chosen_logprobs`` is a log-softmax that never holds all its logits: same values, same gradients."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from covey import kernels
from covey.models import Policy, chosen_logprobs, logprobs
from covey.models.chat import ChatFormat

TOKENS, WIDTH, WORDS = 23, 12, 37


class Headed(nn.Module):
    """All that log-probs need of a model: a head, and a config that may shape what comes out of it."""

    def __init__(self, bias: bool, config: dict[str, float]) -> None:
        super().__init__()
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=bias)
        self.config = SimpleNamespace(**config)

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head


def policy_of(bias: bool = False, **config: float) -> Policy:
    torch.manual_seed(0)
    module = Headed(bias, config)
    nn.init.normal_(module.lm_head.weight)
    tokenizer = SimpleNamespace(eos_token_id=0, chat_template=None)
    return Policy(module, tokenizer, ChatFormat(tokenizer), dict(module.named_parameters()))


def case(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden states, chosen ids, and how much the loss cares for each log-prob and each entropy."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator).to(dtype).requires_grad_()
    chosen = torch.randint(WORDS, (TOKENS,), generator=generator)
    return hidden, chosen, torch.randn(TOKENS, generator=generator), torch.randn(TOKENS, generator=generator)


def by_hand(policy: Policy, hidden: Tensor, chosen: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    config = policy.module.config
    logits = policy.head(hidden).float()
    logits = logits * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = cap * torch.tanh(logits / cap)
    log = (logits / temperature).log_softmax(1)
    return log.gather(1, chosen[:, None])[:, 0], -(log.exp() * log).sum(1)


def gradients(policy: Policy, hidden: Tensor, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [hidden, *policy.head.parameters()]))


SHAPED = [
    {},
    {"bias": True},
    {"final_logit_softcapping": 3.0},
    {"logit_scale": 0.25},
    {"logits_scaling": 4.0, "bias": True},
    {"logit_scale": 2.0, "final_logit_softcapping": 5.0, "bias": True},
]


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
@pytest.mark.parametrize("with_entropy", [False, True])
@pytest.mark.parametrize("shape", SHAPED, ids=str)
def test_values_and_gradients_are_autograd_s(
    shape: dict[str, float], with_entropy: bool, temperature: float
) -> None:
    policy = policy_of(**shape)
    hidden, chosen, care, more_care = case()
    logp, entropy = chosen_logprobs(policy, hidden, chosen, temperature)
    want_logp, want_entropy = by_hand(policy, hidden, chosen, temperature)
    assert torch.allclose(logp, want_logp, atol=1e-5)
    assert torch.allclose(entropy, want_entropy, atol=1e-5)
    assert logp.max() < 0 < entropy.min()

    def loss(logp: Tensor, entropy: Tensor) -> Tensor:
        return (care * logp).sum() + (more_care * entropy).sum() * with_entropy

    have = gradients(policy, hidden, loss(logp, entropy))
    want = gradients(policy, hidden, loss(want_logp, want_entropy))
    for mine, theirs in zip(have, want, strict=True):
        assert (mine - theirs).norm() / theirs.norm() < 1e-5


def test_entropy_alone_carries_gradient_too() -> None:
    policy = policy_of()
    hidden, chosen, care, _ = case()
    have = gradients(policy, hidden, (care * chosen_logprobs(policy, hidden, chosen)[1]).sum())
    want = gradients(policy, hidden, (care * by_hand(policy, hidden, chosen, 1.0)[1]).sum())
    for mine, theirs in zip(have, want, strict=True):
        assert (mine - theirs).norm() / theirs.norm() < 1e-5


@given(rows=st.integers(1, TOKENS + 3))
def test_the_size_of_a_chunk_changes_nothing(rows: int) -> None:
    policy = policy_of(bias=True, final_logit_softcapping=4.0)
    hidden, chosen, care, more_care = case()

    def everything() -> list[Tensor]:
        logp, entropy = chosen_logprobs(policy, hidden, chosen, 0.8)
        return [logp, entropy, *gradients(policy, hidden, (care * logp + more_care * entropy).sum())]

    whole = everything()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logprobs, "CHUNK_BYTES", 4 * WORDS * rows)
        assert len(logprobs._chunks(TOKENS, WORDS)) == -(-TOKENS // rows)
        parts = everything()
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-5)


def test_a_chunk_too_small_for_one_row_still_holds_one() -> None:
    assert logprobs._chunks(3, logprobs.CHUNK_BYTES) == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_in_bf16_the_softmax_is_still_fp32() -> None:
    policy = policy_of()
    policy.module.to(torch.bfloat16)
    hidden, chosen, care, _ = case(torch.bfloat16)
    logp, entropy = chosen_logprobs(policy, hidden, chosen)
    assert logp.dtype == entropy.dtype == torch.float32
    # the logits are rounded to bf16 by the head; what follows is exact
    want, _ = by_hand(policy, hidden, chosen, 1.0)
    assert torch.allclose(logp, want, atol=1e-5)
    d_hidden, d_weight = gradients(policy, hidden, (care * logp).sum())
    assert d_hidden.dtype == d_weight.dtype == torch.bfloat16


def test_no_logits_are_kept_for_the_backward_pass() -> None:
    """What is saved grows with the hidden states, not with the vocabulary."""
    policy = policy_of()
    hidden, chosen, _, _ = case()
    saved: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        chosen_logprobs(policy, hidden, chosen)
    # hidden, the head's own weight, the chosen ids; with kernels also log-sum-exp and entropy of each token
    fused = [TOKENS] * 2 if kernels.usable(hidden) else []
    assert sorted(saved) == sorted([TOKENS * WIDTH, WORDS * WIDTH, TOKENS, *fused])
