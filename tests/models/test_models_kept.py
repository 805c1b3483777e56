"""Log-probs over kept ids are those of an explicitly masked softmax: values and gradients."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from covey.models import Kept, Policy, chosen_logprobs, kept
from covey.models.chat import ChatFormat
from covey.types import CoveyError

GOLDEN = Path(__file__).parents[1] / "algo" / "fixtures" / "grpo_fixtures.json"
TOKENS, WIDTH, WORDS = 23, 12, 37


class Headed(nn.Module):
    def __init__(self, words: int, width: int, bias: bool, config: dict[str, float]) -> None:
        super().__init__()
        self.lm_head = nn.Linear(width, words, bias=bias)
        self.config = SimpleNamespace(**config)

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head


def policy_of(words: int = WORDS, width: int = WIDTH, bias: bool = False, **config: float) -> Policy:
    torch.manual_seed(0)
    module = Headed(words, width, bias, config)
    nn.init.normal_(module.lm_head.weight)
    tokenizer = SimpleNamespace(eos_token_id=0, chat_template=None)
    return Policy(module, tokenizer, ChatFormat(tokenizer), dict(module.named_parameters()))


def case(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, list[list[int]], Tensor, Tensor]:
    """hidden states, chosen ids, the ids kept there (one to all of them), and what the loss cares for."""
    generator, pick = torch.Generator().manual_seed(1), random.Random(2)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator).to(dtype).requires_grad_()
    own = [sorted(pick.sample(range(WORDS), n)) for n in (1, WORDS, *(1 + 5 * t % 13 for t in range(21)))]
    chosen = torch.tensor([pick.choice(ids) for ids in own])
    return hidden, chosen, own, *(torch.randn(TOKENS, generator=generator) for _ in range(2))


def by_hand(policy: Policy, hidden: Tensor, chosen: Tensor, own: list[list[int]], temperature: float):
    """Autograd over the whole vocabulary, all else masked out."""
    cut = torch.ones(len(hidden), policy.vocabulary, dtype=torch.bool)
    for row, ids in enumerate(own):
        cut[row, ids] = False
    logits = policy.logits(hidden) / temperature
    log = logits.masked_fill(cut, -torch.inf).log_softmax(1)
    entropy = torch.special.entr(torch.where(cut, 1.0, log.exp())).sum(1)
    return log.gather(1, chosen[:, None])[:, 0], entropy


def gradients(policy: Policy, hidden: Tensor, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [hidden, *policy.head.parameters()]))


def test_the_golden_vector() -> None:
    vector = json.loads(GOLDEN.read_text())["misc"]["keep_sampling_mask"]
    policy = policy_of(words=5, width=1)
    logp: list[Tensor] = []
    for name in ("old_logits", "new_logits"):
        with torch.no_grad():
            policy.head.weight.copy_(torch.tensor(vector[name])[:, None])  # with a hidden state of 1
        chosen = torch.tensor([vector["token"]])
        own = Kept.of([vector["kept_ids"]], chosen)
        logp.append(chosen_logprobs(policy, torch.ones(1, 1), chosen, 1.0, own)[0][0])
    # over ids 0, 1, 2: exp(1) / (exp(2) + exp(1) + exp(0.5)) = 2.718 / 11.756 = 0.2312
    assert logp[0].item() == pytest.approx(vector["logp_old_masked"], abs=1e-6)
    assert logp[1].item() == pytest.approx(vector["logp_new_masked"], abs=1e-6)
    assert (logp[1] - logp[0]).exp().item() == pytest.approx(vector["ratio_masked"], abs=1e-6)


SHAPED = [
    {},
    {"bias": True},
    {"final_logit_softcapping": 3.0},
    {"logit_scale": 2.0, "logits_scaling": 4.0, "bias": True},
]


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
@pytest.mark.parametrize("shape", SHAPED, ids=str)
def test_values_and_gradients_are_those_of_a_masked_softmax(
    shape: dict[str, float], temperature: float
) -> None:
    policy = policy_of(**shape)
    hidden, chosen, own, care, more_care = case()
    logp, entropy = chosen_logprobs(policy, hidden, chosen, temperature, Kept.of(own, chosen))
    want_logp, want_entropy = by_hand(policy, hidden, chosen, own, temperature)
    assert torch.allclose(logp, want_logp, atol=1e-5)
    assert torch.allclose(entropy, want_entropy, atol=1e-5)
    assert logp[0] == entropy[0] == 0  # one id is certain
    have = gradients(policy, hidden, (care * logp + more_care * entropy).sum())
    want = gradients(policy, hidden, (care * want_logp + more_care * want_entropy).sum())
    for mine, theirs in zip(have, want, strict=True):
        assert (mine - theirs).norm() / theirs.norm() < 1e-5


def test_what_was_cut_off_gets_no_gradient() -> None:
    policy = policy_of()
    hidden, chosen, own, care, more_care = case()
    own = [[id for id in ids if id != 7] or [7] for ids in own]
    chosen = torch.tensor([ids[-1] for ids in own])
    logp, entropy = chosen_logprobs(policy, hidden, chosen, 1.0, Kept.of(own, chosen))
    _, weight = gradients(policy, hidden, (care * logp + more_care * entropy).sum())
    assert weight[7].eq(0).all()
    assert weight.ne(0).any()


def test_everything_kept_is_nothing_cut() -> None:
    policy = policy_of()
    hidden, chosen, _, care, more_care = case()
    everything = Kept.of([range(WORDS)] * TOKENS, chosen)
    both = [chosen_logprobs(policy, hidden, chosen, 0.8, kept) for kept in (everything, None)]
    for mine, whole in zip(*both, strict=True):
        assert torch.allclose(mine, whole, atol=1e-5)
    mine, whole = (gradients(policy, hidden, (care * a + more_care * b).sum()) for a, b in both)
    for one, other in zip(mine, whole, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@given(rows=st.integers(1, TOKENS + 3))
def test_the_size_of_a_chunk_changes_nothing(rows: int) -> None:
    policy = policy_of(bias=True, final_logit_softcapping=4.0)
    hidden, chosen, own, care, more_care = case()

    def everything() -> list[Tensor]:
        logp, entropy = chosen_logprobs(policy, hidden, chosen, 0.8, Kept.of(own, chosen))
        return [logp, entropy, *gradients(policy, hidden, (care * logp + more_care * entropy).sum())]

    whole = everything()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "KEPT_CHUNK_BYTES", rows * (4 * WORDS + kept.KEPT_BYTES * WORDS))
        for mine, theirs in zip(everything(), whole, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5)


def test_logits_are_held_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of()
    hidden, chosen, own, care, _ = case()
    monkeypatch.setattr(kept, "KEPT_CHUNK_BYTES", 4 * (4 * WORDS + kept.KEPT_BYTES * WORDS))
    sizes: list[int] = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda x, *rest: sizes.append(len(x)) or linear(x, *rest)
    )
    (care * chosen_logprobs(policy, hidden, chosen, 1.0, Kept.of(own, chosen))[0]).sum().backward()
    assert sizes == [4, 4, 4, 4, 4, 3] * 2  # 23 tokens by four, forth and back


def test_in_bf16_only_the_logits_are_rounded() -> None:
    policy = policy_of()
    policy.module.bfloat16()
    hidden, chosen, own, care, _ = case(torch.bfloat16)
    logp, _ = chosen_logprobs(policy, hidden, chosen, 1.0, Kept.of(own, chosen))
    assert logp.dtype == torch.float32
    assert torch.allclose(logp, by_hand(policy, hidden, chosen, own, 1.0)[0], atol=1e-5)
    grads = gradients(policy, hidden, (care * logp).sum())
    assert [g.dtype for g in grads] == [torch.bfloat16] * 2


@pytest.mark.parametrize("ids", [[3, 9], [], [5, 6]])
def test_a_token_that_wasn_t_kept_is_refused(ids: list[int]) -> None:
    with pytest.raises(CoveyError, match=f"is 4, which isn't among the {len(ids)} ids"):
        Kept.of([ids], torch.tensor([4]))
