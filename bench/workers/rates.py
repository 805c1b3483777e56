"""Worker: what the machine can do. Matrix products by `torch` and by prepacked oneDNN; memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from harness.channel import Channel, serve, versions

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def fastest(call: Callable[[], object], seconds: float) -> float:
    """The shortest time of a call, repeated for about so many seconds, 3 times at least."""
    call()
    best, since, times = float("inf"), time.perf_counter(), 0
    while times < 3 or time.perf_counter() - since < seconds:
        began = time.perf_counter()
        call()
        best, times = min(best, time.perf_counter() - began), times + 1
    return best


@torch.inference_mode()
def gemm(rows: int, inner: int, outer: int, dtype: str, seconds: float = 0.3) -> dict[str, Any]:
    """FLOP/s of ``[rows, inner] @ [inner, outer]``: the best that a library here reaches."""
    kind = _DTYPES[dtype]
    x, w = torch.randn(rows, inner).to(kind), torch.randn(outer, inner).to(kind)
    ways = {"linear": fastest(lambda: F.linear(x, w), seconds)}
    there = torch.backends.mkldnn.is_available()
    if there and (kind is torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        packed = torch.ops.mkldnn._reorder_linear_weight(w, rows)
        run = torch.ops.mkldnn._linear_pointwise
        ways["prepacked"] = fastest(lambda: run(x, packed, None, "none", [], ""), seconds)
        if kind is torch.float32 and torch.backends.mkl.is_available():
            kept = torch.ops.mkl._mkl_reorder_linear_weight(w, rows)
            ways["mkl packed"] = fastest(lambda: torch.ops.mkl._mkl_linear(x, kept, w, None, rows), seconds)
    way = min(ways, key=lambda name: ways[name])
    return {"rate": 2 * rows * inner * outer / ways[way], "way": way}


@torch.inference_mode()
def bandwidth(gigabytes: float = 1.0, seconds: float = 1.0) -> dict[str, Any]:
    """Bytes/s of reading an array far larger than the caches, and of copying it (read + written)."""
    source = torch.ones(int(gigabytes * 1e9 / 4))
    target = torch.empty_like(source)
    size = 4 * source.numel()
    return {
        "read": size / fastest(source.sum, seconds),
        "copy": 2 * size / fastest(lambda: target.copy_(source), seconds),
    }


if __name__ == "__main__":
    channel = Channel()
    channel.send(versions=versions("torch"))
    serve(channel, {"gemm": gemm, "bandwidth": bandwidth})
