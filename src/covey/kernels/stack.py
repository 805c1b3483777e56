"""A decoding step through all layers of a dense model in one call.

With few sequences, what Python does between two kernels took as long as they. Here the same kernels follow
each other in C and give the same bits. oneDNN's products can't be reached from C through torch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from covey.kernels.library import TYPES, loaded
from covey.kernels.packed import Packed, multiply

_Place, _Size, _Real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Matrix(ctypes.Structure):
    _fields_ = [("kept", _Place), ("bias", _Place), ("outer", _Size), ("inner", _Size)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Matrix) for name in ("qkv", "o", "gate_up", "down")),
        *((name, _Place) for name in ("before", "after", "q_norm", "k_norm")),
        ("window", _Size), ("eps", _Real), ("scale", _Real),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer computes with, all of one dtype: matrices laid out; weights of its norms ``[d]`` and, or
    None, of its heads' ``[D]``; positions that attention looks back (0: all); the norms' epsilon; scale of
    scores."""

    qkv: Packed
    o: Packed
    gate_up: Packed
    down: Packed
    before: Tensor
    after: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    window: int
    eps: float
    scale: float


@dataclass(frozen=True, slots=True)
class Cells:
    """Where a decoding step's tokens go: for each layer prompt key and value, own key and value, then cells
    and lengths, all as `attend_grid` takes them."""

    caches: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]
    cells: Tensor
    lengths: Tensor


def stacks(packed: Packed) -> bool:
    """Whether matrices laid out like this one can be multiplied with from C."""
    return packed.layout.in_c and packed.inner % 2 == 0


class Stack:
    """Every layer of a model, and its last norm: weight ``[d]`` and epsilon."""

    def __init__(self, layers: Sequence[Layer], last: tuple[Tensor, float], head_size: int) -> None:
        self._layers, self._last = list(layers), last  # the table only has their addresses
        self._size = head_size
        self._table = (_Layer * len(layers))(*map(_row, layers))

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, held: Cells) -> Tensor:
        """Embeddings ``[B, d]``, which are written over, and rotary positions ``[B, D]`` → hidden states
        ``[B, d]``."""
        native = loaded()
        assert native is not None
        y, size, (weight, eps) = torch.empty_like(x), self._size, self._last
        heads = self._layers[0].o.inner // size
        _, value, _, own = held.caches[0]
        caches = torch.tensor([[t.data_ptr() for t in layer] for layer in held.caches])
        places = (weight, x, y, cos, sin, caches, held.cells, held.lengths)
        at = [ctypes.c_void_p(t.data_ptr()) for t in places]
        sizes = (*x.shape, heads, own.shape[1], size, value.shape[2], own.shape[2], own.shape[3])
        native.covey_step(
            TYPES[x.dtype],
            multiply(),
            self._table,
            _Size(len(self._table)),
            at[0],
            _Real(eps),
            *at[1:],
            *map(_Size, sizes),
        )
        return y


def _row(layer: Layer) -> _Layer:
    matrices = (_matrix(m) for m in (layer.qkv, layer.o, layer.gate_up, layer.down))
    norms = (_place(t) for t in (layer.before, layer.after, layer.q_norm, layer.k_norm))
    return _Layer(*matrices, *norms, layer.window, layer.eps, layer.scale)


def _matrix(packed: Packed) -> _Matrix:
    return _Matrix(packed.room.data_ptr(), _place(packed.bias), packed.outer, packed.inner)


def _place(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
