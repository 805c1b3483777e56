"""Surrogates: the loss of one token, to be minimised, from its log-ratio and advantage.

``log_ratio`` is what the algorithm's ratio level gave (carrying gradient), r its exponential,
Â the batch's advantage, sg[·] a stop-gradient. A surrogate of one's own is any function of this
shape. Where a token is clipped or masked its gradient is exactly 0.
"""

from __future__ import annotations

import math

import torch

from covey.algo.batch import PerToken, TokenBatch, TokenLoss
from covey.algo.ratio import bounded_exp


def clip(
    batch: TokenBatch,
    log_ratio: PerToken,
    *,
    low: float | None = 0.2,
    high: float | None = 0.2,
    dual: float | None = None,
) -> TokenLoss:
    """-min(r Â, clip(r, 1-low, 1+high) Â) (PPO 1707.06347 eq. 7; separate bounds: DAPO 2503.14476).

    A bound of None (or inf) does not clip. The minimum leaves a large ratio open where Â < 0; ``dual`` bounds
    it there: max(min(…), dual·Â) (dual clip 1912.09729; δ of INTELLECT-2 2505.07291).
    """
    ceiling = math.inf if high is None else 1 + high
    floor = -math.inf if low is None else 1 - low
    if dual is not None and dual <= ceiling:
        raise ValueError(f"clip: dual ({dual}) must be above 1 + high ({ceiling})")
    advantage, ratio = batch.advantage, bounded_exp(log_ratio)
    too_high = (advantage > 0) & (ratio > ceiling)
    too_low = (advantage < 0) & (ratio < floor)
    used = torch.where(too_high, ceiling, torch.where(too_low, floor, ratio))
    metrics = {"clip_low": too_low.to(ratio.dtype), "clip_high": too_high.to(ratio.dtype)}
    if dual is not None:
        too_bad = (advantage < 0) & (ratio > dual)
        used = torch.where(too_bad, dual, used)
        metrics["clip_dual"] = too_bad.to(ratio.dtype)
    return TokenLoss(-used * advantage, metrics)


def cispo(batch: TokenBatch, log_ratio: PerToken, *, cap: float, floor: float = 0.0) -> TokenLoss:
    """-sg[clip(r, floor, cap)] Â log π_θ (CISPO, MiniMax-M1 2506.13585 eq. 4-5).

    Every token keeps a gradient. ``cap`` is the largest weight itself, not an offset from 1; the
    published form has no lower bound.
    """
    ratio = bounded_exp(log_ratio.detach())
    capped = {"capped": ((ratio > cap) | (ratio < floor)).to(ratio.dtype)}
    return TokenLoss(-ratio.clamp(floor, cap) * batch.advantage * batch.logp, capped)


def reinforce(batch: TokenBatch, log_ratio: PerToken) -> TokenLoss:
    """-Â log π_θ: the plain policy gradient, no ratio and no clip."""
    return TokenLoss(-batch.advantage * batch.logp)


def sapo(
    batch: TokenBatch, log_ratio: PerToken, *, positive: float = 1.0, negative: float = 1.05
) -> TokenLoss:
    """-(4/τ) σ(τ (r - 1)) Â, τ by the sign of Â (SAPO 2511.20347): a gate that closes smoothly."""
    temperature = _by_sign(batch, positive, negative)
    gate = torch.sigmoid(temperature * (bounded_exp(log_ratio) - 1)) * 4 / temperature
    return TokenLoss(-gate * batch.advantage)


def gmpo(batch: TokenBatch, log_ratio: PerToken, *, low: float = 0.4, high: float = 0.4) -> TokenLoss:
    """-Â exp(1/L Σ_t log r_t), each log r_t ≤ high where Â > 0 and ≥ -low where Â < 0
    (GMPO 2507.20673): the geometric mean of clipped token ratios."""
    too_high = (batch.advantage > 0) & (log_ratio > high)
    too_low = (batch.advantage < 0) & (log_ratio < -low)
    clipped = torch.where(too_high, high, torch.where(too_low, -low, log_ratio))
    typical = batch.sequence_mean(clipped)
    metrics = {
        "clip_low": too_low.to(log_ratio.dtype),
        "clip_high": too_high.to(log_ratio.dtype),
        "log_ratio": typical.detach(),
    }
    return TokenLoss(-bounded_exp(typical) * batch.advantage, metrics)


def vespo(
    batch: TokenBatch,
    log_ratio: PerToken,
    *,
    k_positive: float = 2.0,
    k_negative: float = 3.0,
    lambda_positive: float = 3.0,
    lambda_negative: float = 2.0,
) -> TokenLoss:
    """-sg[φ(W)] Â log π_θ with φ(W) = W^k e^{λ(1-W)}, W the sequence's product of ratios, k and λ by
    the sign of Â (VESPO 2602.10693)."""
    k = _by_sign(batch, k_positive, k_negative)
    rate = _by_sign(batch, lambda_positive, lambda_negative)
    log_w = log_ratio.detach()
    phi = bounded_exp(k * log_w + rate * (1 - bounded_exp(log_w)))
    return TokenLoss(-phi * batch.advantage * batch.logp)


def _by_sign(batch: TokenBatch, positive: float, negative: float) -> PerToken:
    """``positive`` where Â > 0, else ``negative``, in the batch's own precision."""
    chosen = torch.full_like(batch.advantage, negative)
    return chosen.masked_fill(batch.advantage > 0, positive)


def dppo_tv(batch: TokenBatch, log_ratio: PerToken, *, threshold: float = 0.15) -> TokenLoss:
    """-sg[r] Â log π_θ, without the tokens that moved adversely by more than ``threshold`` in
    probability: π - μ where Â > 0, μ - π where Â < 0 (DPPO 2602.04879, total variation). μ is the
    policy that the ratio is against."""
    moved = _moved(batch, log_ratio)
    return _trust(batch, log_ratio, moved * batch.advantage.sign() > threshold)


def dppo_kl(batch: TokenBatch, log_ratio: PerToken, *, threshold: float = 0.05) -> TokenLoss:
    """As `dppo_tv`, the movement measured by KL(μ ‖ π) of the event "this token or another"."""
    log_pi = batch.logp.detach()
    pi, mu = bounded_exp(log_pi), bounded_exp(log_pi - log_ratio.detach())
    rest = torch.xlogy(1 - mu, (1 - mu).clamp(min=1e-9) / (1 - pi).clamp(min=1e-9))
    divergence = -mu * log_ratio.detach() + rest
    adverse = _moved(batch, log_ratio) * batch.advantage.sign() > 0
    return _trust(batch, log_ratio, adverse & (divergence > threshold))


def _moved(batch: TokenBatch, log_ratio: PerToken) -> PerToken:
    """π - μ of each sampled token."""
    log_pi = batch.logp.detach()
    return bounded_exp(log_pi) - bounded_exp(log_pi - log_ratio.detach())


def _trust(batch: TokenBatch, log_ratio: PerToken, outside: torch.Tensor) -> TokenLoss:
    weight = torch.where(outside, 0.0, bounded_exp(log_ratio.detach()))
    return TokenLoss(-weight * batch.advantage * batch.logp, {"masked": outside.to(log_ratio.dtype)})


def kl_cov(batch: TokenBatch, log_ratio: PerToken, *, coefficient: float = 1.0) -> TokenLoss:
    """-r Â, and + coefficient·|log r| on the selected tokens (KL-Cov 2505.22617)."""
    penalty = torch.where(batch.marked() > 0, coefficient * log_ratio.abs(), 0.0)
    return TokenLoss(penalty - bounded_exp(log_ratio) * batch.advantage)


def luffy(batch: TokenBatch, log_ratio: PerToken, *, gamma: float = 0.1) -> TokenLoss:
    """-Â π_θ/(π_θ + γ): for a teacher's traces, whose own probability is unknown and taken as 1
    (LUFFY 2504.14945); rare tokens weigh more than under π_θ, and nothing clips."""
    probability = bounded_exp(batch.logp)
    return TokenLoss(-batch.advantage * probability / (probability + gamma))


def nll(batch: TokenBatch, log_ratio: PerToken) -> TokenLoss:
    """-log π_θ: supervised learning, whatever the advantage."""
    return TokenLoss(-batch.logp)


def reverse_kl(batch: TokenBatch, log_ratio: PerToken) -> TokenLoss:
    """-r sg[log π_ref - log π_θ]: on-policy distillation, the reference being the teacher.

    On-policy its expected gradient is that of KL(π_θ ‖ π_teacher), token by token.
    """
    gain = (batch.anchor("reference") - batch.logp).detach()
    return TokenLoss(-bounded_exp(log_ratio) * gain)


SURROGATES = {
    "clip": clip,
    "cispo": cispo,
    "reinforce": reinforce,
    "sapo": sapo,
    "gmpo": gmpo,
    "vespo": vespo,
    "dppo_tv": dppo_tv,
    "dppo_kl": dppo_kl,
    "kl_cov": kl_cov,
    "luffy": luffy,
    "nll": nll,
    "reverse_kl": reverse_kl,
}
