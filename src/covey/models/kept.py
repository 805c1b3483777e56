"""Log-probabilities over the ids that truncated sampling kept, and over no others.

DeepSeek-V3.2 (2512.02556, 3.1, "Keep Sampling Mask"): where the sampler cuts its distribution off, the
learner's is cut off at the same ids, so that their ratio compares distributions on one support.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from covey.models.policy import Policy, shape_logits
from covey.types import CoveyError

KEPT_CHUNK_BYTES = 3 << 25
"""Upper bound of what one chunk takes: its logits, which become their own gradient in place, and
`KEPT_BYTES` for each place of its widest token's kept ids."""

KEPT_BYTES = 64
"""The kept logits' places and values in fp32, log-softmax and gradients, while autograd is at them."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The ids kept at each token, one token's behind the other's: ids ``[Σ counts]``, counts
    ``[tokens]``; place ``[tokens]``: where among its own each chosen id stands."""

    ids: Tensor
    counts: Tensor
    place: Tensor

    @classmethod
    def of(cls, kept: Sequence[Sequence[int]], chosen: Tensor) -> Kept:
        """From the ascending ids kept at each token, on the device of ``chosen``, ``[tokens]``.

        Raises CoveyError when a chosen id isn't among its own: it can't have been drawn from them.
        """
        place: list[int] = []
        for at, (ids, token) in enumerate(zip(kept, chosen.tolist(), strict=True)):
            place.append(bisect_left(ids, token))
            if place[-1] == len(ids) or ids[place[-1]] != token:
                raise CoveyError(
                    f"token {at} of a micro-batch is {token}, which isn't among the {len(ids)} ids that its "
                    "sampling kept: the engine reports other ids than it draws from, or the record was edited"
                )
        flat = [i for ids in kept for i in ids]
        ids, counts, places = (
            torch.tensor(values, dtype=torch.long, device=chosen.device)
            for values in (flat, [len(ids) for ids in kept], place)
        )
        return cls(ids, counts, places)


def kept_logprobs(
    policy: Policy, hidden: Tensor, kept: Kept, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(``logp`` of each chosen id, entropy in nats), fp32 ``[tokens]``, of the softmax over its kept ids.

    hidden ``[tokens, width]``. Both carry gradient; ids that weren't kept get none.
    """
    head = policy.head
    bias = head.bias if head.bias is not None else None
    how = (temperature, policy.module.config)
    return _KeptOnly.apply(hidden, head.weight, bias, kept.ids, kept.counts, kept.place, how)


class _KeptOnly(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        ids: Tensor,
        counts: Tensor,
        place: Tensor,
        how: tuple[float, Any],
    ) -> tuple[Tensor, Tensor]:
        ctx.how = how
        ctx.save_for_backward(hidden, weight, bias, ids, counts, place)
        logp = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        entropy = torch.empty_like(logp)
        for part, grid in _chunks(weight, ids, counts):
            raw = torch.nn.functional.linear(hidden[part], weight, bias)
            logp[part], entropy[part] = _measured(grid.gather(raw), grid, place[part], how)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, ids, counts, place = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight, dtype=torch.float32)
        d_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        for part, grid in _chunks(weight, ids, counts):
            rows = hidden[part].detach()
            raw = torch.nn.functional.linear(rows, weight, bias)
            with torch.enable_grad():
                values = grid.gather(raw).requires_grad_()
                logp, entropy = _measured(values, grid, place[part], ctx.how)
                total = logp @ grads[0][part] + entropy @ grads[1][part]
            (d_values,) = torch.autograd.grad(total, values)
            low = grid.scatter(d_values, raw)
            d_hidden[part] = low @ weight
            d_weight += low.T @ rows
            if d_bias is not None:
                d_bias += low.float().sum(0)
        d_bias = None if d_bias is None or bias is None else d_bias.to(bias.dtype)
        return d_hidden, d_weight.to(weight.dtype), d_bias, None, None, None, None


@dataclass(frozen=True, slots=True)
class _Grid:
    """A chunk's kept ids side by side, each token's in a row of K places, of which the last may be empty:
    row, column and id of every kept one."""

    row: Tensor
    column: Tensor
    ids: Tensor
    empty: Tensor  # [tokens, K]

    def gather(self, raw: Tensor) -> Tensor:
        """The kept ones of logits ``[tokens, V]``, fp32 ``[tokens, K]``."""
        values = torch.zeros(self.empty.shape, dtype=torch.float32, device=raw.device)
        values[self.row, self.column] = raw[self.row, self.ids].float()
        return values

    def scatter(self, values: Tensor, into: Tensor) -> Tensor:
        """``[tokens, V]`` of such values, zero elsewhere, in the place of ``into``."""
        into.zero_()
        into[self.row, self.ids] = values[self.row, self.column].to(into.dtype)
        return into


def _measured(values: Tensor, grid: _Grid, place: Tensor, how: tuple[float, Any]) -> tuple[Tensor, Tensor]:
    """(log-prob at ``place``, entropy) of the softmax over each row's places that aren't empty."""
    temperature, config = how
    logits = shape_logits(values, config) / temperature
    log = logits.masked_fill(grid.empty, -torch.inf).log_softmax(1)
    entropy = -(log.exp() * log.masked_fill(grid.empty, 0.0)).sum(1)  # not 0 × -inf
    return log.gather(1, place[:, None])[:, 0], entropy


def _chunks(weight: Tensor, ids: Tensor, counts: Tensor) -> Iterator[tuple[slice, _Grid]]:
    """Tokens by the chunk, with where their kept ids stand."""
    sizes = counts.tolist()
    ends = [0, *accumulate(sizes)]
    widest = max(sizes, default=0)
    each = weight.shape[0] * weight.element_size() + KEPT_BYTES * widest
    size = max(1, KEPT_CHUNK_BYTES // each)
    for first in range(0, len(sizes), size):
        part = slice(first, min(first + size, len(sizes)))
        own, count = ids[ends[part.start] : ends[part.stop]], counts[part]
        row = torch.arange(len(count), device=ids.device).repeat_interleave(count)
        begins = count.cumsum(0) - count
        column = torch.arange(len(own), device=ids.device) - begins[row]
        places = torch.arange(int(count.max()), device=ids.device)
        yield part, _Grid(row, column, own, places >= count[:, None])
