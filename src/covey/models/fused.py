"""Autograd over the CPU kernels: each function is a forward pass with the backward pass that is its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from covey import kernels

Families = tuple[Tensor, Tensor, Tensor]
"""See `covey.kernels.attend_tree`."""

LONGEST = 640
"""Positions of a sequence up to which a whole one goes through the attention kernel: it takes one query at a
time, and beyond some 512 positions torch's fused attention, which takes blocks of them, is ahead."""


def attends(query: Tensor, key: Tensor, value: Tensor, softcap: float | None) -> bool:
    """Whether the attention kernels can take this layer."""
    return softcap is None and kernels.usable(query, key, value)


class AddNorm(torch.autograd.Function):
    """``(x + delta, rms_norm(x + delta) * weight)``: what stands between two blocks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        total, y, rstd = kernels.add_norm(x, delta, weight, eps)
        ctx.save_for_backward(total, weight, rstd)
        ctx.added = delta is not None
        if delta is None:
            total = x.view_as(x)
        return total, y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        total, weight, rstd = ctx.saved_tensors
        dsum, dy = grads
        assert dy is not None
        passed = None if dsum is None else dsum.contiguous()
        dx, dw = kernels.add_norm_backward(total, weight, rstd, dy.contiguous(), passed)
        return dx, dx if ctx.added else None, dw.to(weight.dtype), None


class Rotate(torch.autograd.Function):
    """Rotary positions on ``[T, heads, D]``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        turned = x.clone(memory_format=torch.contiguous_format)
        kernels.rotate(turned, cos, sin)
        return turned

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        turned = grads[0].clone(memory_format=torch.contiguous_format)
        kernels.rotate(turned, cos, sin, back=True)
        return turned, None, None


class Gated(torch.autograd.Function):
    """``silu(gate) * up``."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return kernels.gated(gate, up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return kernels.gated_backward(gate, up, grads[0].contiguous())


class AttendTree(torch.autograd.Function):
    """Attention over a packed `Tree`: ``[T, H, D]``, twice ``[T, K, D]`` → ``[T, H, D]``."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, families: Families, scale: float, window: int
    ) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out, lse = kernels.attend_tree(q, k, v, families, scale, window)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.how = (families, scale, window)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        families, scale, window = ctx.how
        dout = grads[0].contiguous()
        dq, dk, dv = kernels.attend_tree_backward(ctx.saved_tensors, families, dout, scale, window)
        return dq, dk, dv, None, None, None
