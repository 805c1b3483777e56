"""Sums over ragged segments: the tokens of a sequence, the sequences of a group.

``index`` says which of ``size`` segments each value belongs to; an empty segment sums to 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def size_of(index: Int[Tensor, " values"]) -> int:
    """How many segments an index 0..S-1 names."""
    return int(index.max()) + 1 if index.numel() else 0


def total(
    values: Float[Tensor, " values"], index: Int[Tensor, " values"], size: int
) -> Float[Tensor, " segments"]:
    """The sum of each segment."""
    return values.new_zeros(size).index_add(0, index, values)


def count(
    values: Float[Tensor, " values"], index: Int[Tensor, " values"], size: int
) -> Float[Tensor, " segments"]:
    """How many values each segment has, as floats of the values' kind."""
    return total(torch.ones_like(values), index, size)


def mean(
    values: Float[Tensor, " values"], index: Int[Tensor, " values"], size: int
) -> Float[Tensor, " segments"]:
    """The mean of each segment; 0 for an empty one."""
    return total(values, index, size) / count(values, index, size).clamp(min=1)


def spread(values: Float[Tensor, " values"], index: Int[Tensor, " values"]) -> Float[Tensor, " values"]:
    """Each value's segment mean, laid back over the segment's values."""
    return mean(values, index, size_of(index))[index]


def constant(values: Float[Tensor, " values"], index: Int[Tensor, " values"]) -> Bool[Tensor, " segments"]:
    """Which segments hold one and the same number throughout.

    Rounding makes ``value - mean`` of equal values a tiny non-zero, and dividing it by the equally
    tiny deviation would turn it into a signal; equality of the extremes is exact.
    """
    size = size_of(index)
    low = values.new_full((size,), torch.inf).scatter_reduce(0, index, values, "amin")
    high = values.new_full((size,), -torch.inf).scatter_reduce(0, index, values, "amax")
    return low == high
