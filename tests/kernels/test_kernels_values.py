"""Each kernel against the formula it fuses, written out in torch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from covey import kernels
from covey.engines.sampling import draw

pytestmark = pytest.mark.skipif(kernels.why_not() is not None, reason=f"no kernels: {kernels.why_not()}")

TYPES = [torch.float32, torch.bfloat16]


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return (torch.randn(shape, generator=generator) * scale).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [3, 16, 50, 576])
def test_norm_is_transformers_own(dtype: torch.dtype, width: int) -> None:
    x, delta, weight = (
        random(*s, dtype=dtype, seed=i) for i, s in enumerate([(7, width), (7, width), (width,)])
    )
    total, y, rstd = kernels.add_norm(x, delta, weight, 1e-5)
    assert torch.equal(total, x + delta)
    wide = (x + delta).float()
    scale = torch.rsqrt(wide.pow(2).mean(1, keepdim=True) + 1e-5)
    want = weight * (wide * scale).to(dtype)
    assert torch.allclose(rstd, scale[:, 0], rtol=1e-6)
    # in bf16 a sum in another order moves a value that lies on a rounding boundary by one step of 2^-8
    assert (y.float() - want.float()).abs().max() <= (
        2**-7 if dtype is torch.bfloat16 else 1e-6
    ) * want.abs().max()


@pytest.mark.parametrize("dtype", TYPES)
def test_a_norm_made_again_has_the_same_bits(dtype: torch.dtype) -> None:
    x, weight = random(70, 1000, dtype=dtype), random(1000, dtype=dtype, seed=1)
    total, y, rstd = kernels.add_norm(x, None, weight, 1e-5)
    assert torch.equal(kernels.normed(total, rstd, weight), y)


def test_norm_gradients_are_autograd_s() -> None:
    x, weight, dy, more = random(9, 48), random(48, seed=1), random(9, 48, seed=2), random(9, 48, seed=3)
    a, w = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = w * (a * torch.rsqrt(a.pow(2).mean(1, keepdim=True) + 1e-5))
    want = torch.autograd.grad([y, a * 1.0], [a, w], [dy, more])
    _, _, rstd = kernels.add_norm(x, None, weight, 1e-5)
    dx, dw = kernels.add_norm_backward(x, weight, rstd, dy, more)
    assert torch.allclose(dx, want[0], atol=1e-5)
    assert torch.allclose(dw, want[1], atol=1e-5)


@pytest.mark.parametrize("apart", [False, True])
def test_rotation_is_undone_by_its_backward_pass(apart: bool) -> None:
    x = random(5, 6, 10)[:, 1:5] if apart else random(5, 4, 10)
    angle = random(5, 5, seed=1).repeat(1, 2)
    cos, sin = angle.cos(), angle.sin()
    kept = x.clone()
    turned = kernels.rotated(x, cos, sin)
    assert torch.equal(x, kept)
    half = torch.cat([-x[..., 5:], x[..., :5]], -1)
    assert torch.allclose(turned, x * cos[:, None] + half * sin[:, None], atol=1e-6)
    assert torch.allclose(kernels.rotated(turned, cos, sin, back=True), x, atol=1e-6)
    kernels.rotate(x, cos, sin)  # in place: the same bits
    assert torch.equal(x, turned)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 4097, 70001])
def test_what_is_added_up_is_torch_s_sum(dtype: torch.dtype, count: int) -> None:
    total, x = random(count), random(count, dtype=dtype, seed=1)
    want = total + x.float()
    kernels.add_up(total, x)
    assert torch.equal(total, want)


def test_gating_and_its_gradients_are_autograd_s() -> None:
    gate, up, dy = (random(6, 33, seed=i, scale=3).requires_grad_() for i in range(3))
    y = torch.nn.functional.silu(gate) * up
    want = torch.autograd.grad(y, [gate, up], dy)
    assert torch.allclose(kernels.gated(gate.detach(), up.detach()), y, atol=1e-6)
    again, *found = kernels.gated_backward(gate.detach(), up.detach(), dy.detach())
    assert torch.equal(again, kernels.gated(gate.detach(), up.detach()))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, want, strict=True))


@given(
    words=st.integers(1, 700),
    temperature=st.sampled_from([0.25, 1.0, 1.7]),
    dtype=st.sampled_from(TYPES),
    seed=st.integers(0, 99),
)
def test_chosen_is_a_log_softmax_with_its_entropy(
    words: int, temperature: float, dtype: torch.dtype, seed: int
) -> None:
    raw = random(4, words, dtype=dtype, seed=seed, scale=4)
    ids = torch.randint(0, words, (4,), generator=torch.Generator().manual_seed(seed))
    g, h = random(4, seed=seed + 1), random(4, seed=seed + 2)
    logits = raw.double().requires_grad_()
    log = (logits / temperature).log_softmax(1)
    want_logp, want_entropy = log.gather(1, ids[:, None])[:, 0], -(log.exp() * log).sum(1)
    (want,) = torch.autograd.grad(want_logp @ g.double() + want_entropy @ h.double(), logits)
    logp, entropy, lse = kernels.chosen(raw, ids, temperature)
    assert torch.allclose(logp.double(), want_logp, atol=1e-5)
    assert torch.allclose(entropy.double(), want_entropy, atol=1e-5)
    found = raw.clone()
    kernels.chosen_backward(found, ids, temperature, (lse, entropy), (g, h))
    assert (found.double() - want).abs().max() <= (2**-8 if dtype is torch.bfloat16 else 1e-5) * (
        1 + want.abs().max()
    )


@given(words=st.integers(2, 700), seed=st.integers(0, 99))
def test_what_is_drawn_and_its_log_prob(words: int, seed: int) -> None:
    """The word is where the cumulative mass passes the number; the log-prob has the learner's bits."""
    logits = random(8, words, dtype=torch.bfloat16, seed=seed, scale=5)
    uniform = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    picked, logp = kernels.draw(logits, uniform, torch.ones(8))
    upto = logits.double().softmax(1).cumsum(1)
    place = torch.arange(8)
    before = torch.where(picked > 0, upto[place, (picked - 1).clamp(min=0)], 0.0)
    assert bool((before <= uniform + 1e-6).all())
    assert bool((upto[place, picked] >= uniform - 1e-6).all())
    assert torch.equal(logp, kernels.chosen(logits, picked, 1.0)[0])


def test_greedy_takes_the_first_of_the_best_at_temperature_one() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0]])
    picked, logp = kernels.draw(logits, torch.tensor([0.99], dtype=torch.float64), torch.zeros(1))
    assert picked.tolist() == [1]
    # exp 0 + 2 exp 2 + exp 1 = 1 + 14.7781 + 2.7183 = 18.4964; 2 - ln 18.4964 = -0.91757
    assert logp.item() == pytest.approx(-0.91757, abs=1e-5)


def test_a_word_without_mass_is_never_drawn() -> None:
    logits = torch.full((2, 600), -math.inf)
    logits[:, 300] = 1.0
    picked, logp = kernels.draw(logits, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), torch.ones(2))
    assert picked.tolist() == [300, 300]
    assert logp.tolist() == [0.0, 0.0]


def test_nan_stays_nan() -> None:
    logits = torch.full((1, 40), math.nan)
    _, logp = kernels.draw(logits, torch.tensor([0.5], dtype=torch.float64), torch.ones(1))
    assert logp.isnan().all()
    assert kernels.chosen(logits.bfloat16(), torch.tensor([3]), 1.0)[0].isnan().all()
    x = torch.full((1, 16), math.nan, dtype=torch.bfloat16)
    assert kernels.add_norm(x, x, torch.ones(16, dtype=torch.bfloat16), 1e-5)[1].isnan().all()
    assert kernels.gated(x, x).isnan().all()


def test_torch_alone_draws_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = random(64, 1000, scale=3)
    uniform = torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    heat = torch.tensor([0.0, 0.5, 1.0, 2.0]).repeat(16)
    one = draw(logits.clone(), uniform, heat)
    monkeypatch.setattr(kernels, "usable", lambda *tensors: False)
    other = draw(logits.clone(), uniform, heat)
    assert torch.equal(one[0], other[0])
    assert torch.allclose(one[1], other[1], atol=2e-6)
