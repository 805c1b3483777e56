"""Drawing tokens: one keyed uniform number a token, and the log-probability of what it picked."""

from __future__ import annotations

import hashlib
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor

from covey.types import DrawKey

_BLOCK = 256


def uniforms(key: DrawKey, count: int) -> np.ndarray:
    """The first ``count`` numbers in [0, 1) of a completion's own stream, float64 ``[count]``.

    Counter-based (Philox), so number i is a function of the key and i alone: asking for more
    later, elsewhere, or beside other completions gives the same values.
    """
    digest = hashlib.blake2b(repr(astuple(key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little"))).random(count)


def draw(logits: Tensor, uniform: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """(token ids ``[B]``, their ``sampler_logp`` ``[B]`` fp32) by inverse transform.

    logits ``[B, V]`` fp32; uniform ``[B]`` float64; temperature ``[B]``, 0 meaning greedy. The
    log-probability is of the very distribution drawn from, ``softmax(logits / temperature)``; for
    greedy rows, of the untempered one. A token of probability zero is never drawn.
    """
    greedy = temperature == 0
    scaled = logits / torch.where(greedy, 1.0, temperature)[:, None]
    total = scaled.logsumexp(1, keepdim=True)
    picked = _inverse((scaled - total).exp_(), uniform)
    picked = torch.where(greedy, logits.argmax(1), picked)
    return picked, scaled.gather(1, picked[:, None])[:, 0] - total[:, 0]


def _inverse(probability: Tensor, uniform: Tensor) -> Tensor:
    """First index whose cumulative probability exceeds ``uniform`` of the row's mass.

    In two levels, blocks and then words in a block: a cumulative sum over a whole vocabulary
    costs more than the model, and its rounding error grows with the length.
    """
    rows, words = probability.shape
    blocks = torch.nn.functional.pad(probability, (0, -words % _BLOCK)).view(rows, -1, _BLOCK)
    mass = blocks.sum(2).double().cumsum(1)
    target = uniform * mass[:, -1]
    block = _first_above(mass, target)
    before = torch.where(block > 0, mass.gather(1, (block - 1).clamp(min=0)[:, None])[:, 0], 0.0)
    inside = blocks[torch.arange(rows, device=blocks.device), block].double().cumsum(1)
    # summing a block in another order may leave the target a rounding error beyond its end
    within = _first_above(inside, torch.minimum(target - before, inside[:, -1] * (1 - 1e-12)))
    return block * _BLOCK + within


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    index = torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())[:, 0]
    return torch.minimum(index, last)  # `last` is the first index that reaches the whole mass
