"""The gradient does not depend on how a step is split into micro-batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group


@dataclass(kw_only=True)
class MicroBatch(Sentinel):
    """Takes the gradient of a few sequences of the first step with a signal twice, in one micro-batch
    and in two, before the update. Once an attempt.

    tolerance: ‖difference‖ / ‖gradient‖; None is 2e-4 in fp32 and 0.05 in 16 bits, where each
    micro-batch's gradient is rounded before it is added.
    """

    name: ClassVar[str] = "micro_batch"
    level: ClassVar[Level] = "stop"

    tolerance: float | None = None
    done: bool = field(init=False, default=False)

    def blind(self) -> str | None:
        return "the learner can't take a gradient twice" if self.setting.split_difference is None else None

    def sampled(self, step: int, groups: Sequence[Group]) -> Finding | None:
        if self.done or self.setting.split_difference is None:
            return None
        difference = self.setting.split_difference(groups)
        if difference is None or math.isnan(difference):
            return None
        self.done = True
        tolerance = self.tolerance if self.tolerance is not None else 2e-4 if self.setting.exact else 0.05
        if difference <= tolerance:
            return None
        return Finding(
            "the gradient changes with the micro-batch split",
            f"of the same sequences, in one micro-batch and in two, it differs by {difference:.2e} of its "
            f"norm, more than {tolerance:.0e}",
            "the loss is divided by something local to a micro-batch (its tokens, its sequences, their "
            "number), or sequences packed together see each other",
            "weight every token once for the whole optimizer step and only sum after that; check the "
            "attention mask of packed sequences",
        )
