"""The machine's measured rates, and what a decode step would take if nothing else took time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.flops import Shape
from harness.measure import rounded
from harness.workers import Worker

PEAK = (  # rows × inner × outer
    (4096, 4096, 4096),
    (2048, 2048, 2048),
    (1024, 576, 1536),
    (2048, 576, 1536),
    (2048, 576, 3072),
    (2048, 1536, 576),
    (2048, 576, 49152),
)
"""A large square, and the shapes of a SmolLM2 update."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The best rate over `PEAK`, in FLOP/s, and each shape's."""

    rate: float
    by_shape: dict[str, dict[str, Any]]

    def told(self) -> dict[str, Any]:
        return {"tflops": rounded(self.rate / 1e12), "by_shape": self.by_shape}


def peak(rates: Worker, dtype: str, *, quick: bool = False) -> Peak:
    """Measure it now."""
    found = {
        "x".join(map(str, shape)): rates.call("gemm", **_named(shape), dtype=dtype)
        for shape in (PEAK[2:6] if quick else PEAK)
    }
    told = {name: {"tflops": rounded(one["rate"] / 1e12), "way": one["way"]} for name, one in found.items()}
    return Peak(max(one["rate"] for one in found.values()), told)


def decode_rates(rates: Worker, shape: Shape, batch: int, dtype: str) -> dict[str, float]:
    """FLOP/s of each of the model's matrices at ``batch`` rows, by name."""
    return {
        name: rates.call("gemm", **_named((batch, i, o)), dtype=dtype)["rate"]
        for name, (i, o, _) in shape.matrices.items()
    }


def _named(shape: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("rows", "inner", "outer"), shape, strict=True))
