"""Keeping a policy's entropy up: which tokens to single out, and how strong a bonus to pay.

A selection looks at all tokens of an optimizer step at once, before the update, so that it doesn't
depend on micro-batches; it returns 1 for the tokens singled out and 0 for the rest. What is done
with them is another choice's business (`only_selected`, `drop_selected`, the `kl_cov` surrogate).
"""

from __future__ import annotations

import torch

from covey.algo.batch import PerToken, StepTokens, TokenBatch


def top_entropy(tokens: StepTokens, *, fraction: float = 0.2) -> PerToken:
    """The ``fraction`` of tokens where the policy was least sure (80/20 2506.01939)."""
    if tokens.entropy is None:
        raise ValueError("top_entropy reads the entropy at each token, but the step has none")
    return _largest(tokens.entropy, fraction)


def top_covariance(tokens: StepTokens, *, fraction: float = 2e-4) -> PerToken:
    """The ``fraction`` of tokens with the highest covariance (KL-Cov 2505.22617)."""
    return _largest(covariance(tokens), fraction)


def covariance_band(
    tokens: StepTokens, *, fraction: float = 2e-4, low: float = 1.0, high: float = 5.0
) -> PerToken:
    """``fraction`` of all tokens, drawn among those with covariance in (low, high)
    (Clip-Cov 2505.22617). Those with the smallest ``draw`` are taken."""
    if tokens.draw is None:
        raise ValueError("covariance_band draws at random, but the step has no draws")
    value = covariance(tokens)
    candidate = (value > low) & (value < high)
    ranked = torch.where(candidate, -tokens.draw.to(value.dtype), -torch.inf)
    return _largest(ranked, fraction) * candidate.to(value.dtype)


def covariance(tokens: StepTokens) -> PerToken:
    """(log π - mean)(Â - mean) of each token: what drives entropy down where it is positive."""
    return (tokens.logp - tokens.logp.mean()) * (tokens.advantage - tokens.advantage.mean())


def bonus(batch: TokenBatch, *, coefficient: float) -> PerToken:
    """c·H of the whole distribution at each token, to come off its loss (A3C 1602.01783, 4)."""
    if batch.entropy is None:
        raise ValueError("the algorithm pays for entropy, but the batch has none")
    return coefficient * batch.entropy


def adaptive_bonus(
    coefficient: float,
    entropy: float,
    *,
    target: float = 0.2,
    delta: float = 0.005,
    low: float = 0.0,
    high: float = 1.0,
) -> tuple[float, bool]:
    """(the next step's entropy coefficient, whether it is paid): ``delta`` more while entropy (nats) is
    at or below ``target``, ``delta`` less above it, within [low, high]; and above it nothing is paid
    (Skywork-OR1 2505.22312; bounds as in TRL 1.16)."""
    below = entropy <= target
    return min(max(coefficient + (delta if below else -delta), low), high), below


def _largest(value: PerToken, fraction: float) -> PerToken:
    """1 for the ``fraction`` largest values (at least one), the earlier token first among equals."""
    if not value.numel():
        return value.clone()
    count = max(int(fraction * len(value)), 1)
    chosen = torch.zeros_like(value)
    chosen[torch.argsort(value, descending=True, stable=True)[:count]] = 1
    return chosen


ENTROPY = {"bonus": bonus}

ENTROPY_CONTROLS = {"adaptive": adaptive_bonus}

SELECTIONS = {
    "top_entropy": top_entropy,
    "top_covariance": top_covariance,
    "covariance_band": covariance_band,
}
