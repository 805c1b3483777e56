"""The engine's log-probabilities are the learner's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Update


@dataclass(kw_only=True)
class Mismatch(Sentinel):
    """Bounds how far engine and learner disagree on the sampled tokens.

    kl: of KL(sampler ‖ learner) by k3, in nats. gap: of mean |logp - sampler_logp|, in nats. None is 1e-5
    and 1e-3 where both compute in fp32; elsewhere 0.01 (what practice calls sound) and 0.05.
    """

    name: ClassVar[str] = "mismatch"
    level: ClassVar[Level] = "stop"

    kl: float | None = None
    gap: float | None = None

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        metrics = update.metrics
        if "mismatch_k3" not in metrics:
            return None
        kl = self.kl if self.kl is not None else 1e-5 if self.setting.exact else 0.01
        gap = self.gap if self.gap is not None else 1e-3 if self.setting.exact else 0.05
        # NaN is over no bound here: non-finite values have their own sentinel
        if not (metrics["mismatch_k3"] > kl or metrics["mismatch_abs"] > gap):
            return None
        return Finding(
            "engine and learner disagree on the probabilities of the sampled tokens",
            f"KL {metrics['mismatch_k3']:.2e} (bound {kl:.0e}), mean gap {metrics['mismatch_abs']:.2e} nats "
            f"(bound {gap:.0e}), ratio from {metrics['mismatch_ratio_min']:.3f} to "
            f"{metrics['mismatch_ratio_max']:.3f}, worst in {_worst(update)}",
            "another temperature, top-p or prompt template in the engine, an end token that isn't counted, "
            "weights not in step, or a coarser number format on one side",
            "look for a pattern in that sample's logp and sampler_logp: a constant factor is the "
            "temperature, only the first token the template, only the last the end token, all alike noise "
            "the format. Where the formats differ by design, raise [sentinels] mismatch = { kl = … }",
        )


def _worst(update: Update) -> str:
    gaps = [
        (abs(a - b), s.group, s.sample, at)
        for s in update.samples
        for at, (a, b) in enumerate(zip(s.logp, s.sampler_logp, strict=False))
    ]
    gap, group, sample, at = max(gaps, default=(0.0, 0, 0, 0))
    return f"group {group} sample {sample} token {at} ({gap:.3f} nats)"
