"""Loss and gradient are finite numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Sample, Update


@dataclass(kw_only=True)
class NonFinite(Sentinel):
    """Says when an update was dropped because its loss or gradient was not finite, which leaves the
    weights untouched, and stops at the ``patience``-th step in a row."""

    name: ClassVar[str] = "non_finite"
    level: ClassVar[Level] = "stop"

    patience: int = 3
    skipped: int = field(init=False, default=0)

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        if not _broken(update.metrics):
            return None
        row = self.skipped + 1
        figures = {k: update.metrics[k] for k in ("loss", "grad_norm") if k in update.metrics}
        return Finding(
            f"loss or gradient is not finite, for {row} step{'s' * (row > 1)} in a row; such an update is "
            "dropped and leaves the weights as they are",
            ", ".join(f"{k} {v}" for k, v in figures.items()) + "; " + _where(update.samples),
            "a learning rate that blew the weights up, an overflow in a 16-bit format, or a log-probability "
            "of -inf that the engine reported",
            "look at grad_norm in the steps before; lower train.learning_rate or max_grad_norm, or compute "
            "in float32",
            level=None if row >= self.patience else "warn",
        )

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        self.skipped = self.skipped + 1 if _broken(metrics) else 0


def _broken(metrics: Mapping[str, float]) -> bool:
    return not all(math.isfinite(metrics.get(name, 0.0)) for name in ("loss", "grad_norm"))


def _where(samples: Sequence[Sample]) -> str:
    """The first thing that isn't finite among what went into the loss."""
    for sample in samples:
        for column in ("logp", "sampler_logp", "weight"):
            for at, value in enumerate(getattr(sample, column)):
                if not math.isfinite(value):
                    return f"{column} of token {at} in group {sample.group} sample {sample.sample} is {value}"
    return "every log-probability and weight that went into the loss is finite"
