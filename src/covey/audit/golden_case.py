"""One case of a golden-vector file: its inputs, checked and flattened, and what Covey makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from covey.algo import Algorithm, TokenBatch, advantages, segments, token_loss, token_weights
from covey.audit.golden_rows import Sum
from covey.types import CoveyError

_TOKEN_INPUTS = ("logp_new", "logp_old", "logp_ref", "logp_rollout")


@dataclass(frozen=True)
class Computed:
    """An algorithm's loss on a case. ``scale`` is Σ |weight · token loss|: what rounding of ``loss``
    is relative to, since its terms may cancel. ``metrics`` are per token."""

    loss: Tensor
    scale: Tensor
    grad: Tensor
    per_token: Tensor
    metrics: Mapping[str, Tensor]

    @property
    def total(self) -> Sum:
        return Sum(self.loss, self.scale)


@dataclass(frozen=True)
class Case:
    """Sequences of a file's case: ``mask`` [rows, positions] marks the chosen tokens, which all the
    flat tensors hold row after row; ``group`` and ``lengths`` have one entry per row."""

    mask: Tensor
    rewards: Tensor
    group: Tensor
    lengths: Tensor
    max_length: int
    flat: Mapping[str, Tensor]

    @property
    def sequence(self) -> Tensor:
        """The row of each chosen token."""
        return torch.repeat_interleave(torch.arange(len(self.lengths)), self.lengths)

    def padded(self, values: Tensor) -> Tensor:
        """Per-token values back in the file's layout, zeros where nothing was chosen."""
        return torch.zeros(self.mask.shape, dtype=values.dtype).masked_scatter(self.mask, values)

    def per_row(self, values: Tensor, empty: float) -> Tensor:
        """The first value of each row, for values that are the same along a row; ``empty`` for a row
        without tokens."""
        start = (self.lengths.cumsum(0) - self.lengths).clamp(max=max(len(values) - 1, 0))
        return torch.where(self.lengths > 0, values[start], empty)

    def rows(self, keep: Tensor) -> Case:
        """The case of some rows alone (``keep``: one boolean per row); groups stay whole."""
        tokens = keep[self.sequence]
        return Case(
            mask=self.mask[keep],
            rewards=self.rewards[keep],
            group=torch.unique(self.group[keep], return_inverse=True)[1],
            lengths=self.lengths[keep],
            max_length=self.max_length,
            flat={name: values[tokens] for name, values in self.flat.items()},
        )

    def zero_variance(self) -> Tensor:
        """Which rows belong to a group whose rewards are all equal."""
        return segments.constant(self.rewards, self.group)[self.group]

    def row_mean(self, values: Tensor) -> Tensor:
        """The mean of each row's tokens, at each of them."""
        return segments.mean(values, self.sequence, len(self.lengths))[self.sequence]

    def advantages(self, algorithm: Algorithm) -> Tensor:
        return advantages(algorithm, self.rewards, self.group, self.lengths)

    def weights(self, algorithm: Algorithm, micro_batch: Tensor | None = None) -> Tensor:
        return token_weights(
            algorithm, self.lengths, self.group, max_length=self.max_length, micro_batch=micro_batch
        )

    def compute(
        self, algorithm: Algorithm, *, advantage: Tensor | None = None, weight: Tensor | None = None
    ) -> Computed:
        """The loss of these rows; advantages and weights (one per row) may come from a larger step."""
        advantage = self.advantages(algorithm) if advantage is None else advantage
        weight = self.weights(algorithm) if weight is None else weight
        logp = self.flat["logp_new"].clone().requires_grad_()
        batch = TokenBatch(
            logp=logp,
            old_logp=self.flat["logp_old"],
            sampler_logp=self.flat["logp_rollout"],
            ref_logp=self.flat["logp_ref"],
            advantage=advantage[self.sequence],
            sequence=self.sequence,
        )
        out = token_loss(algorithm, batch)
        weighted = out.loss * weight[self.sequence].to(out.loss.dtype)
        (grad,) = torch.autograd.grad(weighted.sum(), logp)
        per_token, weighted = out.loss.detach(), weighted.detach()
        return Computed(weighted.sum(), weighted.abs().sum(), grad, per_token, out.metrics)


def read_case(name: str, inputs: Any, dtype: torch.dtype) -> Case:
    """The case of a file's ``inputs``. Raises CoveyError naming the row that is missing or broken."""
    if not isinstance(inputs, Mapping):
        raise CoveyError(f"row {name}.inputs: must be a table of inputs")
    marks = numbers(f"{name}.inputs.mask", inputs.get("mask"), torch.float64, 2)
    mask = marks > 0
    if not bool((marks == mask).all()):
        raise CoveyError(f"row {name}.inputs.mask: holds a number that is neither 0 nor 1")
    lengths = mask.sum(1)
    rewards = numbers(f"{name}.inputs.rewards", inputs.get("rewards"), dtype, 1)
    if len(rewards) != len(mask):
        raise CoveyError(f"row {name}.inputs.rewards: {len(rewards)} rewards for {len(mask)} rows of mask")
    flat = {}
    for key in _TOKEN_INPUTS:
        flat[key] = _chosen(f"{name}.inputs.{key}", inputs.get(key), dtype, mask)
    size = _count(f"{name}.inputs.G", inputs.get("G"))
    if len(mask) % size:
        raise CoveyError(f"row {name}.inputs.G: {len(mask)} rows are no whole number of groups of {size}")
    return Case(
        mask=mask,
        rewards=rewards,
        group=torch.arange(len(mask)) // size,
        lengths=lengths,
        max_length=_count(f"{name}.inputs.max_completion_length", inputs.get("max_completion_length")),
        flat=flat,
    )


def _chosen(row: str, value: Any, dtype: torch.dtype, mask: Tensor) -> Tensor:
    """A row's numbers where the mask is; what stands in the padding, null and NaN included, is nobody's."""
    if isinstance(value, list) and all(isinstance(line, list) for line in value):
        value = [[_number(item) for item in line] for line in value]
    values = _array(row, value, dtype, 2)
    if values.shape != mask.shape:
        raise CoveyError(f"row {row}: shape {list(values.shape)}, mask {list(mask.shape)}")
    return _finite(row, values[mask])


def _number(item: Any) -> Any:
    """JSON has no NaN and no infinity; files write null, or the word."""
    if item is None:
        return math.nan
    return float(item) if item in ("NaN", "Infinity", "-Infinity") else item


def numbers(row: str, value: Any, dtype: torch.dtype, dimensions: int) -> Tensor:
    """A row of finite numbers with that many dimensions. Raises CoveyError naming the row."""
    return _finite(row, _array(row, value, dtype, dimensions))


def _array(row: str, value: Any, dtype: torch.dtype, dimensions: int) -> Tensor:
    if value is None:
        raise CoveyError(f"row {row}: missing")
    try:
        tensor = torch.tensor(value, dtype=dtype)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CoveyError(f"row {row}: not a regular array of numbers ({error})") from None
    if tensor.dim() != dimensions or not tensor.numel():
        raise CoveyError(f"row {row}: needs {dimensions} dimension(s), has shape {list(tensor.shape)}")
    return tensor


def _finite(row: str, tensor: Tensor) -> Tensor:
    if not bool(tensor.isfinite().all()):
        raise CoveyError(f"row {row}: holds a number that is not finite")
    return tensor


def _count(row: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CoveyError(f"row {row}: must be a whole number from 1, not {value!r}")
    return value
