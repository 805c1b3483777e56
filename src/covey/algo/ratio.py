"""How far the policy has moved: log π_θ/π_old of each token, at the level a choice asks for.

``against`` names π_old: the ``learner``'s own value at the start of the update, or the
``sampler``'s (bypass: no second forward pass, and the ratio carries staleness and the mismatch
between the two engines together).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from covey.algo.batch import PerToken, TokenBatch

Against: TypeAlias = Literal["learner", "sampler"]


def bounded_exp(x: Tensor) -> Tensor:
    """exp, bounded to the square root of the largest number of its kind (float32: e^44).

    A product of two of them is finite, so that a weight of 0 gives 0 and never 0·inf; outside the
    bound the gradient is 0. No ratio that a run survives comes near it.
    """
    limit = torch.log(torch.tensor(torch.finfo(x.dtype).max, dtype=torch.float64)).item() / 2
    return x.clamp(-limit, limit).exp()


def token(batch: TokenBatch, *, against: Against = "learner") -> PerToken:
    """r_t = π_θ(o_t)/π_old(o_t): one ratio per token (PPO; DeepSeekMath 2402.03300 eq. 3)."""
    return batch.logp - batch.anchor(against)


def sequence(batch: TokenBatch, *, against: Against = "learner") -> PerToken:
    """s_i = exp(1/L Σ_t log r_t): the sequence's geometric mean (GSPO 2507.18071 eq. 7)."""
    return batch.sequence_mean(token(batch, against=against))


def sequence_token(batch: TokenBatch, *, against: Against = "learner") -> PerToken:
    """s_t = sg[s_i]·π_θ(o_t)/sg[π_θ(o_t)]: GSPO's value, each token its own gradient
    (GSPO-token, 2507.18071 eq. 13-14)."""
    return sequence(batch, against=against).detach() + (batch.logp - batch.logp.detach())


def sequence_product(batch: TokenBatch, *, against: Against = "learner") -> PerToken:
    """Π_t r_t: the sequence's true importance ratio, as R1 eq. 1 prints it (2501.12948)."""
    return batch.sequence_sum(token(batch, against=against))


def none(batch: TokenBatch) -> PerToken:
    """r = 1: for surrogates without a ratio; no log-probs but the policy's own are needed."""
    return torch.zeros_like(batch.logp)


RATIOS = {
    "none": none,
    "token": token,
    "sequence": sequence,
    "sequence_token": sequence_token,
    "sequence_product": sequence_product,
}
