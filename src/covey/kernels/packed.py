"""Matrices laid out once for many products: what sampling multiplies with.

`torch.nn.functional.linear` lays a matrix out anew at every call, which costs more than the product when
there are few rows. In bf16 oneDNN keeps a layout; in fp32 MKL does, and gives the very bits of `linear`.
torch brings both.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

COLUMNS = 16
"""See `Packed.unpacked`."""

_ROWS = {torch.bfloat16: 128, torch.float32: 256}
"""Rows that are laid out for, about as many as are decoded at once; fewer and more work as well."""

_ROW_MAJOR, _PLAIN, _TURNED, _PACKED, _B = 101, 111, 112, 151, 162  # of CBLAS, and of MKL's extension of it


def available(dtype: torch.dtype) -> bool:
    """Whether a layout can be kept for matrices of that type."""
    if dtype is torch.bfloat16:
        return torch.backends.mkldnn.is_available()
    return dtype is torch.float32 and _mkl() is not None


class Packed:
    """``[out, in]``, or several with the same ``in`` one below the other, ready for ``x @ weightᵀ + bias``.

    weights: on the CPU, of a dtype that is `available`. bias ``[out]``.
    """

    def __init__(self, weights: Sequence[Tensor], bias: Tensor | None = None) -> None:
        joined = torch.cat(list(weights)) if len(weights) > 1 else weights[0].contiguous()
        self.rows, self.bias = [len(weight) for weight in weights], bias
        self.outer, self.inner = joined.shape
        self.kept: Tensor | None = None
        self.looked = 0  # the column that is read back next
        if joined.dtype is torch.bfloat16:
            self.kept = torch.ops.mkldnn._reorder_linear_weight(joined, _ROWS[joined.dtype])
            return
        sizes = (_ROWS[joined.dtype], self.outer, self.inner)
        self.room = torch.empty(_there().cblas_sgemm_pack_get_size(_B, *sizes), dtype=torch.uint8)
        _there().cblas_sgemm_pack(
            _ROW_MAJOR, _B, _TURNED, *sizes, 1.0, joined.data_ptr(), self.inner, self.room.data_ptr()
        )

    def __call__(self, x: Tensor) -> Tensor:
        """``[T, in]`` → ``[T, out]``."""
        if self.kept is not None:
            return torch.ops.mkldnn._linear_pointwise(x, self.kept, self.bias, "none", [], "")
        y = self._product(x.contiguous())
        return y if self.bias is None else y.add_(self.bias)

    def unpacked(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """The matrices as they are multiplied with, to compare with ``weights``, which they were made of.

        bf16 is read back whole. MKL keeps its layout to itself: there, `COLUMNS` columns are read by products
        with unit vectors, other ones at each call, and the rest is taken from ``weights``.
        """
        if self.kept is not None:
            return list(self.kept.to_dense().split(self.rows))
        columns = (torch.arange(min(COLUMNS, self.inner)) + self.looked) % self.inner
        self.looked = (self.looked + COLUMNS) % self.inner
        units = torch.zeros(len(columns), self.inner)
        units[torch.arange(len(columns)), columns] = 1.0
        found = self._product(units).T.split(self.rows)
        return [
            own if torch.equal(own[:, columns], seen) else own.index_copy(1, columns, seen)
            for own, seen in zip(weights, found, strict=True)
        ]

    def _product(self, x: Tensor) -> Tensor:
        y = torch.empty(len(x), self.outer)
        _there().cblas_sgemm_compute(
            _ROW_MAJOR, _PLAIN, _PACKED, len(x), self.outer, self.inner, x.data_ptr(), self.inner,
            self.room.data_ptr(), self.outer, 0.0, y.data_ptr(), self.outer,
        )  # fmt: skip
        return y


def multiply() -> ctypes.c_void_p:
    """The address of what multiplies by an fp32 layout, for C to call."""
    return ctypes.cast(_there().cblas_sgemm_compute, ctypes.c_void_p)


def _there() -> ctypes.CDLL:
    mkl = _mkl()
    assert mkl is not None
    return mkl


@functools.cache
def _mkl() -> ctypes.CDLL | None:
    """The MKL inside torch, or None for a torch without one."""
    if not torch.backends.mkl.is_available():
        return None
    try:
        mkl = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        size, pack, compute = mkl.cblas_sgemm_pack_get_size, mkl.cblas_sgemm_pack, mkl.cblas_sgemm_compute
    except (OSError, AttributeError):
        return None
    whole, real, place = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    size.restype, size.argtypes = ctypes.c_size_t, [whole] * 4
    pack.restype, pack.argtypes = None, [whole] * 6 + [real, place, whole, place]
    compute.restype = None
    compute.argtypes = [whole] * 6 + [place, whole, place, whole, real, place, whole]
    return mkl
