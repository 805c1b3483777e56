"""From logits to log-probs, under the very distribution that the sampler drew from."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def token_logp(
    logits: Float[Tensor, "tokens vocabulary"],
    token: Int[Tensor, " tokens"],
    *,
    temperature: float = 1.0,
    kept: Bool[Tensor, "tokens vocabulary"] | None = None,
) -> Float[Tensor, " tokens"]:
    """log π(token) at the sampler's temperature, restricted to the ids that it kept.

    With top-p or top-k sampling the learner must normalise over the sampler's own kept set
    (DeepSeek-V3.2 2512.02556, "Keep Sampling Mask"); otherwise the ratio compares two supports.
    """
    scaled = logits / temperature
    if kept is not None:
        scaled = scaled.masked_fill(~kept, -torch.inf)
    return scaled.log_softmax(-1).gather(-1, token.unsqueeze(-1)).squeeze(-1)


def nucleus(logits: Float[Tensor, "tokens vocabulary"], top_p: float) -> Bool[Tensor, "tokens vocabulary"]:
    """The smallest set of likeliest ids whose probability reaches ``top_p``."""
    probability, order = logits.softmax(-1).sort(-1, descending=True)
    before = probability.cumsum(-1) - probability
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < top_p)


def entropy(logits: Float[Tensor, "tokens vocabulary"]) -> Float[Tensor, " tokens"]:
    """-Σ π log π, in nats."""
    logp = logits.log_softmax(-1)
    return torch.special.entr(logp.exp()).sum(-1)
