"""Matrices laid out once for many products: what sampling multiplies with.

`torch.nn.functional.linear` lays a matrix out anew at every call, which costs more than the product when
there are few rows. In fp32 MKL keeps a layout on Intel's processors, and gives the very bits of `linear`; on
a Zen 3 it takes one and copies it at every call all the same, so that on all others it is our own. In bf16 it
is our own where the processor multiplies bf16 in vector registers, and oneDNN's where it has tiles (AMX) or
there are no kernels. torch brings MKL and oneDNN.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from covey.kernels.library import TYPES, intel, loaded

COLUMNS = 16
"""See `Packed.unpacked`."""

_ROWS = {torch.bfloat16: 128, torch.float32: 256}
"""Rows that the libraries lay out for, about as many as are decoded at once; fewer and more work as well."""

_ROW_MAJOR, _PLAIN, _TURNED, _PACKED, _B = 101, 111, 112, 151, 162  # of CBLAS, and of MKL's extension of it


def available(dtype: torch.dtype) -> bool:
    """Whether a layout can be kept for matrices of that type."""
    return _layout(dtype) is not None


def in_c(dtype: torch.dtype) -> bool:
    """Whether kernels in C can multiply with the layout."""
    layout = _layout(dtype)
    return layout is not None and layout.in_c


def in_panels(dtype: torch.dtype) -> bool:
    """Whether the layout is our own, so that products while learning are to be, too."""
    return isinstance(_layout(dtype), _Panels)


class Packed:
    """``[out, in]``, or several with the same ``in`` one below the other, ready for ``x @ weightᵀ + bias``.

    weights: on the CPU, of a dtype that is `available`. bias ``[out]``. ``room`` is what the layout takes.
    """

    def __init__(self, weights: Sequence[Tensor], bias: Tensor | None = None) -> None:
        joined = torch.cat(list(weights)) if len(weights) > 1 else weights[0].contiguous()
        layout = _layout(joined.dtype)
        assert layout is not None
        self.layout, self.bias = layout, bias
        self.rows = [len(weight) for weight in weights]
        self.outer, self.inner = joined.shape
        self.looked = 0  # the column that is read back next
        self.room = layout.lay(joined)

    def __call__(self, x: Tensor) -> Tensor:
        """``[T, in]`` → ``[T, out]``."""
        return self.layout.product(self, x.contiguous())

    def unpacked(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """The matrices as they are multiplied with, to compare with ``weights``, which they were made of.

        Our own layout and oneDNN's are read back whole. MKL keeps its to itself: there, `COLUMNS` columns are
        read by products with unit vectors, other ones at each call, and the rest is taken from ``weights``.
        """
        return self.layout.read(self, weights)


class Layout(Protocol):
    """How matrices stand in memory. ``in_c``: whether kernels in C can multiply with them."""

    in_c: ClassVar[bool]

    def lay(self, joined: Tensor) -> Tensor: ...
    def product(self, packed: Packed, x: Tensor) -> Tensor: ...
    def read(self, packed: Packed, weights: Sequence[Tensor]) -> list[Tensor]: ...


class _Panels:
    """Our own: ``[panels, in, outputs]`` of fp32, and of bf16 ``[panels, in / 2, outputs, 2]``, where a panel
    has as many outputs as two registers; zeros where these or 2 don't divide the sizes."""

    in_c: ClassVar[bool] = True

    def lay(self, joined: Tensor) -> Tensor:
        outputs, per = _native().covey_panel(), _per(joined.dtype)
        whole = pad(joined, (0, rest)) if (rest := joined.shape[1] % per) else joined
        outer, units = len(whole), whole.shape[1] // per
        room = torch.empty(-(-outer // outputs), units, outputs, dtype=torch.int32)
        _native().covey_lay(_place(whole), _place(room), ctypes.c_int64(outer), ctypes.c_int64(units))
        return room

    def product(self, packed: Packed, x: Tensor) -> Tensor:
        y = torch.empty(len(x), packed.outer, dtype=x.dtype)
        if rest := packed.inner % _per(x.dtype):
            x = pad(x, (0, rest))
        places = [_place(t) for t in (packed.room, packed.bias, x, y)]
        _native().covey_multiply(
            TYPES[x.dtype], *places, *map(ctypes.c_int64, (len(x), packed.outer, x.shape[1]))
        )
        return y

    def read(self, packed: Packed, weights: Sequence[Tensor]) -> list[Tensor]:
        units = torch.empty(packed.outer, packed.room.shape[1], dtype=torch.int32)
        _native().covey_read(_place(packed.room), _place(units), *map(ctypes.c_int64, units.shape))
        return list(units.view(weights[0].dtype)[:, : packed.inner].split(packed.rows))


def _place(tensor: Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def _per(dtype: torch.dtype) -> int:
    """Inputs that stand together in our own layout."""
    return 2 if dtype is torch.bfloat16 else 1


class _OneDNN:
    in_c: ClassVar[bool] = False

    def lay(self, joined: Tensor) -> Tensor:
        return torch.ops.mkldnn._reorder_linear_weight(joined, _ROWS[joined.dtype])

    def product(self, packed: Packed, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, packed.room, packed.bias, "none", [], "")

    def read(self, packed: Packed, weights: Sequence[Tensor]) -> list[Tensor]:
        return list(packed.room.to_dense().split(packed.rows))


class _MKL:
    """For fp32, on Intel's processors and where there are no kernels."""

    in_c: ClassVar[bool] = True

    def lay(self, joined: Tensor) -> Tensor:
        sizes = (_ROWS[joined.dtype], *joined.shape)
        room = torch.empty(_there().cblas_sgemm_pack_get_size(_B, *sizes), dtype=torch.uint8)
        _there().cblas_sgemm_pack(
            _ROW_MAJOR, _B, _TURNED, *sizes, 1.0, joined.data_ptr(), joined.shape[1], room.data_ptr()
        )
        return room

    def product(self, packed: Packed, x: Tensor) -> Tensor:
        y = self._product(packed, x)
        return y if packed.bias is None else y.add_(packed.bias)

    def _product(self, packed: Packed, x: Tensor) -> Tensor:
        y = torch.empty(len(x), packed.outer)
        _there().cblas_sgemm_compute(
            _ROW_MAJOR, _PLAIN, _PACKED, len(x), packed.outer, packed.inner, x.data_ptr(), packed.inner,
            packed.room.data_ptr(), packed.outer, 0.0, y.data_ptr(), packed.outer,
        )  # fmt: skip
        return y

    def read(self, packed: Packed, weights: Sequence[Tensor]) -> list[Tensor]:
        columns = (torch.arange(min(COLUMNS, packed.inner)) + packed.looked) % packed.inner
        packed.looked = (packed.looked + COLUMNS) % packed.inner
        units = torch.zeros(len(columns), packed.inner)
        units[torch.arange(len(columns)), columns] = 1.0
        found = self._product(packed, units).T.split(packed.rows)
        return [
            own if torch.equal(own[:, columns], seen) else own.index_copy(1, columns, seen)
            for own, seen in zip(weights, found, strict=True)
        ]


@functools.cache
def _layout(dtype: torch.dtype) -> Layout | None:
    native = loaded()
    if dtype is torch.float32:
        if native is not None and not (_mkl() and intel()):
            return _Panels()
        return _MKL() if _mkl() is not None else None
    if dtype is not torch.bfloat16:
        return None
    if native is not None and native.covey_multiplies_bf16() and not torch.cpu._is_amx_tile_supported():
        return _Panels()
    # it lays bf16 out only for a processor that has instructions for it, and raises elsewhere
    supported = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return _OneDNN() if supported else None


def multiply() -> ctypes.c_void_p:
    """The address of what multiplies by an fp32 layout, for C to call; null where the layout is our own."""
    if not isinstance(_layout(torch.float32), _MKL):
        return ctypes.c_void_p()
    return ctypes.cast(_there().cblas_sgemm_compute, ctypes.c_void_p)


def _native() -> ctypes.CDLL:
    native = loaded()
    assert native is not None
    return native


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
