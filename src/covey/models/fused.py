"""Autograd over the CPU kernels: each function is a forward pass with the backward pass that is its own."""

from __future__ import annotations

import weakref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from covey import kernels
from covey.kernels.packed import in_panels

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
        return kernels.rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return kernels.rotated(grads[0], cos, sin, back=True), None, None


class Linear(torch.autograd.Function):
    """A linear layer whose weight's gradient may be summed where it is made; see `gathered`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy = grads[0].contiguous()
        return linear_back(dy, weight), gathered(weight, dy, x), dy.sum(0) if ctx.biased else None


class NormLinears(torch.autograd.Function):
    """`AddNorm`, and linear layers on its result: ``(x + delta, layer(rms_norm(x + delta) * weight), ...)``.

    layers: weight, bias or None, of one after the other. The norm's result is made again in the backward
    pass, where it costs one pass over it, rather than kept until then.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, *layers: Any
    ) -> tuple[Tensor, ...]:
        total, y, rstd = kernels.add_norm(x, delta, weight, eps)
        weights, biases = layers[::2], layers[1::2]
        ctx.save_for_backward(total, rstd, weight, *weights)
        ctx.added, ctx.biased = delta is not None, [bias is not None for bias in biases]
        if delta is None:
            total = x.view_as(x)
        return total, *(linear(y, w, bias) for w, bias in zip(weights, biases, strict=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        total, rstd, weight, *weights = ctx.saved_tensors
        dsum, *douts = grads
        y = kernels.normed(total, rstd, weight)
        dy: Tensor | None = None
        found: list[Tensor | None] = []
        for dout, w, biased in zip(douts, weights, ctx.biased, strict=True):
            assert dout is not None
            dout = dout.contiguous()
            dy = linear_back(dout, w, dy)
            found += [gathered(w, dout, y), dout.sum(0) if biased else None]
        assert dy is not None
        passed = None if dsum is None else dsum.contiguous()
        dx, dw = kernels.add_norm_backward(total, weight, rstd, dy, passed)
        return dx, dx if ctx.added else None, dw.to(weight.dtype), None, *found


class GatedLinear(torch.autograd.Function):
    """``layer(silu(gate) * up)``; what the layer reads is made again beside its gradient, not kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(gate, up, weight)
        ctx.biased = bias is not None
        return linear(kernels.gated(gate, up), weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, weight = ctx.saved_tensors
        dy = grads[0].contiguous()
        product, dgate, dup = kernels.gated_backward(gate, up, linear_back(dy, weight))
        return dgate, dup, gathered(weight, dy, product), dy.sum(0) if ctx.biased else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weightᵀ + bias``. In fp32 by our own panels where sampling uses them: then a row has the bits it
    was sampled with, and they don't depend on the split into micro-batches."""
    if not _in_panels(x, weight):
        return F.linear(x, weight, bias)
    y = kernels.product(x.contiguous(), weight.contiguous())
    return y if bias is None else y.add_(bias)


def linear_back(dy: Tensor, weight: Tensor, total: Tensor | None = None) -> Tensor:
    """``dy @ weight``, added to ``total`` where it is given; by the same as `linear`."""
    if _in_panels(dy, weight):
        return kernels.product_back(dy, weight.contiguous(), total)
    return dy @ weight if total is None else total.addmm_(dy, weight)


def _in_panels(x: Tensor, weight: Tensor) -> bool:
    return weight.dtype is torch.float32 and in_panels(torch.float32) and kernels.usable(x, weight)


def gather_into(parameter: Any, master: Tensor) -> None:
    """Have `gathered` sum a weight's gradients in ``master.grad``, which is fp32. From then on they are found
    there: autograd's own ways to a gradient, hooks and `torch.autograd.grad`, see none of this weight."""
    parameter.master = weakref.ref(master)  # in fp32 it is the parameter itself


def gathered(weight: Tensor, dy: Tensor, x: Tensor) -> Tensor | None:
    """The gradient ``dyᵀ x`` of a linear layer's weight, for autograd; None where there is none to be had, or
    it was added to its master's instead: in fp32 by the product itself, in bf16 by a kernel that never
    rounds it in between."""
    if not weight.requires_grad:
        return None
    kept = getattr(weight, "master", None)
    master = None if kept is None else kept()
    fp32 = weight.dtype is torch.float32
    by_kernel = not fp32 and in_panels(weight.dtype) and kernels.usable(weight, dy, x)
    if master is None or master.dtype is not torch.float32 or not (fp32 or by_kernel):
        return dy.T @ x
    first = master.grad is None
    if first:
        master.grad = torch.empty_like(master)
    if by_kernel:
        kernels.add_product(master.grad, dy, x, first=first)
    else:
        torch.addmm(master.grad, dy.T, x, beta=0.0 if first else 1.0, out=master.grad)
    return None


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
