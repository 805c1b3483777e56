"""Drawing tokens: one keyed uniform number a token, and the log-probability of what it picked."""

from __future__ import annotations

import hashlib
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor

from covey import kernels
from covey.types import DrawKey, Sampling

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

    logits ``[B, V]``, overwritten; uniform ``[B]`` float64; temperature ``[B]``, 0 meaning
    greedy. The log-probability is of the very distribution drawn from,
    ``softmax(logits / temperature)``; for greedy rows, of the untempered one. A token of
    probability zero is never drawn.
    """
    if kernels.usable(logits):
        return kernels.draw(logits.contiguous(), uniform.contiguous(), temperature.contiguous())
    logits = logits.float()
    # the vocabulary is long: every pass over the logits that isn't needed is left out
    greedy = temperature == 0
    if bool((temperature != 1).any()):
        logits.div_(torch.where(greedy, 1.0, temperature)[:, None])
    top, best = logits.max(1)
    if bool(greedy.all()):
        return best, -(logits.sub_(top[:, None]).exp_().sum(1).log_())
    mass = logits.sub_(top[:, None]).exp_()
    picked, share = _inverse(mass, uniform)
    picked = torch.where(greedy, best, picked)
    return picked, (mass.gather(1, picked[:, None])[:, 0].double() / share).log().float()


def draw_kept(
    logits: Tensor, uniform: Tensor, sampling: Sampling
) -> tuple[Tensor, Tensor, list[tuple[int, ...]]]:
    """(token ids ``[B]``, their ``sampler_logp`` ``[B]`` fp32, each row's kept ids ascending), truncated.

    logits ``[B, V]``; uniform ``[B]`` float64; ``sampling`` truncates. The log-probability is of the
    distribution drawn from, which is over the kept ids alone. Each row is a function of its own logits
    and number: of equally likely ids at the edge the lower ones are kept. As with `draw`, a row whose
    logits aren't numbers has a NaN for its log-probability.
    """
    ids = _likeliest(logits, min(sampling.top_k, logits.shape[1]))
    values = logits.gather(1, ids).float()
    top = values.amax(1, keepdim=True)
    broken = ~top[:, 0].isfinite()
    values, top = values.masked_fill(broken[:, None], 0.0), top.masked_fill(broken[:, None], 0.0)
    mass = ((values - top) / sampling.temperature).double().exp()
    kept = _kept(mass, sampling)
    mass = torch.where(kept, mass, 0.0)
    # in order of ids, as the whole distribution is gone through: near-equals that change places move nothing
    upto = mass.cumsum(1)
    at = _first_above(upto, uniform * upto[:, -1])[:, None]
    logp = (mass.gather(1, at)[:, 0] / upto[:, -1]).log().float().masked_fill(broken, torch.nan)
    several = ids[kept].split(kept.sum(1).tolist())
    return ids.gather(1, at)[:, 0], logp, [tuple(row.tolist()) for row in several]


def _likeliest(logits: Tensor, count: int) -> Tensor:
    """The ``count`` largest of each row, by ascending id ``[B, count]``; of equals the lower ids."""
    values, ids = logits.topk(min(count + 1, logits.shape[1]))
    least = values[:, count - 1]
    if count < values.shape[1]:
        for row in (values[:, count] == least).nonzero()[:, 0].tolist():  # topk takes any of equals
            reach = (logits[row] >= least[row]).nonzero()[:, 0]
            above = logits[row, reach] > least[row]
            ids[row, :count] = torch.cat([reach[above], reach[~above]])[:count]
    return ids[:, :count].sort(1).values


def _kept(mass: Tensor, sampling: Sampling) -> Tensor:
    """Which of the likeliest ids top_p and min_p leave, bool ``[B, K]``.

    mass: float64, the likeliest id's 1. Both leave a beginning of the ids in falling order.
    """
    falling, order = mass.sort(dim=1, descending=True, stable=True)
    upto = falling.cumsum(1)
    before = torch.nn.functional.pad(upto[:, :-1], (1, 0))
    keep = (falling > 0) & (falling >= sampling.min_p)
    if sampling.top_p < 1:
        keep &= before < sampling.top_p * upto[:, -1:]
    return torch.zeros_like(keep).scatter(1, order, keep)


def _inverse(mass: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """(first index whose cumulative mass exceeds ``uniform`` of the row's, the row's mass).

    In two levels, blocks and then words in a block: a cumulative sum over a whole vocabulary
    costs more than the model, and its rounding error grows with the length.
    """
    rows, words = mass.shape
    if words % _BLOCK:
        mass = torch.nn.functional.pad(mass, (0, -words % _BLOCK))
    blocks = mass.view(rows, -1, _BLOCK)
    upto = blocks.sum(2).double().cumsum(1)
    target = uniform * upto[:, -1]
    block = _first_above(upto, target)
    before = torch.where(block > 0, upto.gather(1, (block - 1).clamp(min=0)[:, None])[:, 0], 0.0)
    inside = blocks[torch.arange(rows, device=blocks.device), block].double().cumsum(1)
    # summing a block in another order may leave the target a rounding error beyond its end
    within = _first_above(inside, torch.minimum(target - before, inside[:, -1] * (1 - 1e-12)))
    return block * _BLOCK + within, upto[:, -1]


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    index = torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())[:, 0]
    return torch.minimum(index, last)  # `last` is the first index that reaches the whole mass
