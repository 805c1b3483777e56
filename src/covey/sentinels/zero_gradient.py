"""A step with a signal has a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Update


@dataclass(kw_only=True)
class ZeroGradient(Sentinel):
    """Finds a gradient of exactly 0 in a step whose samples have advantages and weights."""

    name: ClassVar[str] = "zero_gradient"
    level: ClassVar[Level] = "stop"

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        metrics = update.metrics
        signal = [s for s in update.samples if s.advantage and any(s.weight)]
        masked = metrics.get("correction") == 0  # a correction has masked every token, and says so
        if metrics.get("grad_norm") != 0 or not signal or masked:
            return None
        return Finding(
            "every gradient is zero though the step has a signal",
            f"{len(signal)} of {len(update.samples)} samples have an advantage and a weight, the loss is "
            f"{metrics.get('loss', 0.0):.3g}, and the gradient's norm is 0",
            "the parameters are frozen or cut off from the loss (detached, computed without gradient), or "
            "the optimizer holds other tensors than the model computes with",
            "check requires_grad of the parameters and that log-probabilities carry a gradient",
        )
