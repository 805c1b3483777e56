"""What a CPU does between matrix products, fused: each function is one pass over memory.

Tensors are contiguous, of one dtype (fp32 or bf16) and on the CPU; `usable` says whether that holds and
the kernels are there. Nothing here knows autograd: `covey.models.fused` pairs forward and backward.

Letters: T tokens · d width · H query heads · K key heads · D head size · B cells · V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from covey.kernels.allocator import keep_memory
from covey.kernels.library import TYPES, identity, loaded, why_not

__all__ = [
    "LANES", "add_norm", "add_norm_backward", "add_product", "add_up", "attend_grid", "attend_tree",
    "attend_tree_backward", "chosen", "chosen_backward", "draw", "gated", "gated_backward", "identity",
    "keep_memory", "normed", "product", "product_back", "rotate", "rotated", "usable", "why_not",
]  # fmt: skip

LANES = 16
"""What caches of keys are padded to: as many as attention reads at a time in the widest registers."""


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels can take these tensors."""
    first = tensors[0].dtype
    return (
        loaded() is not None
        and first in TYPES
        and all(t.device.type == "cpu" and t.dtype is first for t in tensors)
    )


def add_norm(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x + delta, its RMS norm times ``weight``, 1/rms ``[T]`` fp32) of ``[T, d]``; delta None adds 0."""
    y, rstd = torch.empty_like(x), torch.empty(x.shape[0], dtype=torch.float32)
    total = x if delta is None else torch.empty_like(x)
    _call("norm_forward", x, x, delta, weight, total, y, rstd, x.shape[0], x.shape[1], float(eps))
    return total, y, rstd


def normed(x: Tensor, rstd: Tensor, weight: Tensor) -> Tensor:
    """The norm of ``x`` again, to the bit, from what `add_norm` gave."""
    y = torch.empty_like(x)
    _call("norm_again", x, x, rstd, weight, y, *x.shape)
    return y


def add_norm_backward(
    x: Tensor, weight: Tensor, rstd: Tensor, dy: Tensor, dsum: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(gradient of the sum, of ``weight`` in fp32); ``dsum`` is what reaches the sum by other ways."""
    dx, dw = torch.empty_like(x), torch.empty(x.shape[1], dtype=torch.float32)
    _call("norm_backward", x, x, weight, rstd, dy, dsum, dx, dw, x.shape[0], x.shape[1])
    return dx, dw


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary positions in place on ``[T, heads, D]``, whose rows may lie apart."""
    _rotate(x, x, cos, sin, 1.0)


def rotated(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    """The same as a tensor of its own; ``back`` undoes it."""
    y = torch.empty(x.shape, dtype=x.dtype)
    _rotate(_whole_rows(x), y, cos, sin, -1.0 if back else 1.0)
    return y


def _rotate(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor, sign: float) -> None:
    _call("rotate", x, x, x.stride(0), y, y.stride(0), cos, sin, *x.shape, sign)


def add_up(total: Tensor, x: Tensor) -> None:
    """``total += x`` of one shape, total in fp32: torch would first make an fp32 copy of a bf16 ``x``."""
    _call("add_up", x, x, total, x.numel())


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up`` of ``[T, d]``, whose rows may lie apart equally."""
    y = torch.empty(gate.shape, dtype=gate.dtype)
    _call("gated_forward", y, gate, up, gate.stride(0), y, gate.shape[0], gate.shape[1])
    return y


def gated_backward(gate: Tensor, up: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(what `gated` gave, gradient of gate, of up)."""
    y, dgate, dup = (torch.empty_like(gate) for _ in range(3))
    _call("gated_backward", gate, gate, up, dy, y, dgate, dup, gate.numel())
    return y, dgate, dup


def add_product(total: Tensor, dy: Tensor, x: Tensor, *, first: bool = False) -> None:
    """``total += dyᵀ x`` (``first``: ``=``) of fp32 ``[out, in]``, bf16 ``[T, out]`` and ``[T, in]``, summed
    in fp32; only where `packed.in_c` says so of bf16."""
    _call("add_product", dy, dy, x, total, len(x), *total.shape, int(first))


def product(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weightᵀ`` of fp32 ``[T, in]`` and ``[out, in]``, to the bit what `packed.Packed` gives of panels;
    a row has the same bits whoever stands beside it."""
    assert x.dtype is weight.dtype is torch.float32
    y = torch.empty(len(x), len(weight))
    _call("product", x, x, weight, 1, y, *y.shape, weight.shape[1], 0)
    return y


def product_back(dy: Tensor, weight: Tensor, total: Tensor | None = None) -> Tensor:
    """``dy @ weight`` of fp32 ``[T, out]`` and ``[out, in]``, added to ``total`` where it is given."""
    assert dy.dtype is weight.dtype is torch.float32
    y = torch.empty(len(dy), weight.shape[1]) if total is None else total
    _call("product", dy, dy, weight, 0, y, *y.shape, len(weight), int(total is not None))
    return y


def attend_tree(
    q: Tensor, k: Tensor, v: Tensor, families: tuple[Tensor, Tensor, Tensor], scale: float, window: int
) -> tuple[Tensor, Tensor]:
    """(attention ``[T, H, D]``, log-sum-exp ``[T, H]`` fp32) of packed ``[T, H, D]``, ``[T, K, D]``.

    families: (prefixes ``[F, 4]``: two stretches of rows, begin and length each; where each family's members
    start ``[F + 1]``; members ``[M, 2]``: begin and length), int64. A member's rows attend to the family's
    prefix and, causally, to themselves.
    """
    out, lse = torch.empty_like(q), torch.empty(q.shape[:2], dtype=torch.float32)
    _call("tree_forward", q, q, k, v, out, lse, *families, len(families[0]), *_heads(q, k), scale, window)
    return out, lse


def attend_tree_backward(
    saved: Sequence[Tensor], families: tuple[Tensor, Tensor, Tensor], dout: Tensor, scale: float, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; ``saved`` is q, k, v, and what `attend_tree` gave."""
    q, k, v, out, lse = saved
    dq = torch.empty_like(q)
    dk = torch.zeros(k.shape, dtype=torch.float32)
    dv = torch.zeros(v.shape, dtype=torch.float32)
    _call(
        "tree_backward", q, q, k, v, out, lse, dout, dq, dk, dv, *families, len(families[0]), *_heads(q, k),
        scale, window,
    )  # fmt: skip
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def attend_grid(
    q: Tensor,
    fresh: tuple[Tensor, Tensor],
    prompt: tuple[Tensor, Tensor],
    own: tuple[Tensor, Tensor],
    cells: Tensor,
    lengths: Tensor,
    scale: float,
    window: int,
) -> Tensor:
    """Attention ``[B, H, D]`` of one new token in each of B cells, whose key and value are stored first.

    q ``[B, H, D]``, fresh ``[B, K, D]`` (rows may lie apart); prompt key ``[P, K, D, S]`` and value
    ``[P, K, S, D]``, own ``[P, K, N, D, M]`` and ``[P, K, N, M, D]``; S and M are multiples of `LANES`;
    cells ``[B, 4]``: row, column, own tokens held before, which of the B; neighbours of one row together;
    lengths ``[P]``: of the prompts.
    """
    q, key, value = (_whole_rows(t) for t in (q, *fresh))
    out = torch.empty(q.shape, dtype=q.dtype)
    s, (n, m) = prompt[1].shape[2], own[1].shape[2:4]
    _call(
        "grid_forward", q, q, q.stride(0), key, value, key.stride(0), value.stride(0), out, *prompt, *own,
        cells, lengths, q.shape[0], *_heads(q, key), s, n, m, scale, window,
    )  # fmt: skip
    return out


def draw(logits: Tensor, uniform: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """See `covey.engines.sampling.draw`; logits ``[B, V]`` are read once and left as they are."""
    rows, words = logits.shape
    picked, logp = torch.empty(rows, dtype=torch.long), torch.empty(rows, dtype=torch.float32)
    _call("draw", logits, logits, rows, words, uniform, temperature, picked, logp)
    return picked, logp


def chosen(logits: Tensor, words: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """(log-prob of each row's word, entropy in nats, both fp32; log-sum-exp, fp64) of ``[T, V]``."""
    rows, vocabulary = logits.shape
    logp, entropy = torch.empty(rows), torch.empty(rows)
    lse = torch.empty(rows, dtype=torch.float64)
    _call("chosen_forward", logits, logits, rows, vocabulary, words, temperature, logp, entropy, lse)
    return logp, entropy, lse


def chosen_backward(
    logits: Tensor,
    words: Tensor,
    temperature: float,
    saved: tuple[Tensor, Tensor],
    grads: tuple[Tensor, Tensor],
) -> None:
    """Turn logits into the gradient with respect to them, in place; saved: log-sum-exp and entropy;
    grads: of the log-prob and of the entropy, fp32 ``[T]``."""
    rows, vocabulary = logits.shape
    _call("chosen_backward", logits, logits, rows, vocabulary, words, temperature, *saved, *grads)


def _whole_rows(x: Tensor) -> Tensor:
    """``[B, heads, D]`` whose rows, each in one piece, may lie apart; copied where they are in pieces."""
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()


def _heads(q: Tensor, k: Tensor) -> tuple[int, int, int]:
    return q.shape[1], k.shape[1], q.shape[2]


Argument = Tensor | float | int | ctypes.c_float | None
_functions: dict[str, Any] = {}


def _call(name: str, like: Tensor, *arguments: Argument) -> None:
    call = _functions.get(name) or _function(name, arguments)
    call(TYPES[like.dtype], *[x.data_ptr() if isinstance(x, Tensor) else x for x in arguments])


def _function(name: str, arguments: Sequence[Argument]) -> Any:
    """A kernel with its signature, by its first call: wrapping each argument was a third of a small call."""
    native = loaded()
    assert native is not None
    call = _functions[name] = getattr(native, f"covey_{name}")
    call.restype, call.argtypes = None, [ctypes.c_int, *map(_kind, arguments)]
    return call


def _kind(value: Argument) -> Any:
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p
    return ctypes.c_int64 if isinstance(value, int) else ctypes.c_float
