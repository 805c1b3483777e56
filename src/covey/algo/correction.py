"""Corrections for a sampler that is not quite the learner: a weight on each token's policy term.

ρ_t = π_old(o_t)/π_sampler(o_t) is the mismatch between the engine that sampled and the learner
that scores. Weights carry no gradient and don't touch the KL term; several are multiplied.
"""

from __future__ import annotations

import torch

from covey.algo.batch import PerToken, TokenBatch
from covey.algo.ratio import Against, bounded_exp


def token_truncate(batch: TokenBatch, *, cap: float = 2.0) -> PerToken:
    """min(ρ_t, cap): truncated importance sampling (TIS, Yao et al. 2025)."""
    return bounded_exp(_mismatch(batch)).clamp(max=cap)


def token_mask(batch: TokenBatch, *, low: float = 0.5, high: float = 5.0) -> PerToken:
    """ρ_t where low ≤ ρ_t ≤ high, else 0 (IcePop 2510.18855)."""
    return _within(bounded_exp(_mismatch(batch)), low, high)


def sequence_truncate(batch: TokenBatch, *, cap: float = 3.0) -> PerToken:
    """min(Π_t ρ_t, cap) (2512.23075). The product shrinks or grows with length."""
    return bounded_exp(batch.sequence_sum(_mismatch(batch))).clamp(max=cap)


def sequence_mask(batch: TokenBatch, *, low: float = 0.0, high: float = 3.0) -> PerToken:
    """Π_t ρ_t where low ≤ Π_t ρ_t ≤ high, else 0 (2512.23075; TRL's default)."""
    return _within(bounded_exp(batch.sequence_sum(_mismatch(batch))), low, high)


def geometric_mask(batch: TokenBatch, *, low: float = 0.99, high: float = 1.01) -> PerToken:
    """1 where low ≤ exp(mean_t log ρ_t) ≤ high, else 0: the same rule for short and long sequences."""
    typical = bounded_exp(batch.sequence_mean(_mismatch(batch)))
    return ((typical >= low) & (typical <= high)).to(typical.dtype)


def veto(batch: TokenBatch, *, low: float = 1e-4, high: float = 100.0) -> PerToken:
    """0 for a sequence with any token's ρ_t outside [low, high], else 1."""
    rho = bounded_exp(_mismatch(batch))
    bad = ((rho < low) | (rho > high)).to(rho.dtype)
    return (batch.sequence_sum(bad) == 0).to(rho.dtype)


def off_policy_mask(batch: TokenBatch, *, delta: float, against: Against = "sampler") -> PerToken:
    """0 for a sequence with Â < 0 and mean_t log π_old/π_θ > δ, else 1 (DeepSeek-V3.2 2512.02556
    eq. 8-9). π_old is the sampler's, so that δ bounds staleness and mismatch together; the paper
    doesn't disclose δ."""
    drift = batch.sequence_mean((batch.anchor(against) - batch.logp).detach())
    return 1 - ((batch.advantage < 0) & (drift > delta)).to(drift.dtype)


def only_selected(batch: TokenBatch) -> PerToken:
    """1 for the selected tokens, 0 for the rest (80/20 2506.01939, with `top_entropy`)."""
    return batch.marked()


def drop_selected(batch: TokenBatch) -> PerToken:
    """0 for the selected tokens, 1 for the rest (Clip-Cov 2505.22617, with `covariance_band`)."""
    return 1 - batch.marked()


def _mismatch(batch: TokenBatch) -> PerToken:
    return (batch.anchor("learner") - batch.anchor("sampler")).detach()


def _within(value: PerToken, low: float, high: float) -> PerToken:
    return torch.where((value >= low) & (value <= high), value, 0.0)


CORRECTIONS = {
    "token_truncate": token_truncate,
    "token_mask": token_mask,
    "sequence_truncate": sequence_truncate,
    "sequence_mask": sequence_mask,
    "geometric_mask": geometric_mask,
    "veto": veto,
    "off_policy_mask": off_policy_mask,
    "only_selected": only_selected,
    "drop_selected": drop_selected,
}

TOKEN_LEVEL = frozenset({"token_truncate", "token_mask", "only_selected", "drop_selected"})
"""The corrections that treat the tokens of one sequence differently."""
