"""The policy neither freezes nor dissolves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Update

START = 3
"""Steps whose median is where a run began."""


@dataclass(kw_only=True)
class Entropy(Sentinel):
    """Watches the mean entropy of the next token, in nats. Where nothing was trained, as when all answers
    to a problem are the same, minus the mean log-probability of what was sampled stands in for it.

    floor: below it the policy has collapsed, unless it has become sure because it became right: a
    reward above the start's by three standard errors. rise: above so many times the start's median, and
    half a nat at least, it is dissolving into noise.
    """

    name: ClassVar[str] = "entropy"
    level: ClassVar[Level] = "warn"

    floor: float = 0.02
    rise: float = 3.0
    entropies: list[float] = field(init=False, default_factory=list)
    rewards: list[float] = field(init=False, default_factory=list)

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        entropy = update.metrics.get("entropy", _estimate(groups))
        if entropy is None:
            return None
        if entropy < self.floor and not self._gained(update.metrics):
            return self._collapse(entropy, update.metrics)
        if len(self.entropies) == START:
            start = statistics.median(self.entropies)
            if entropy > max(self.rise * start, start + 0.5):
                return self._explosion(entropy, start, update.metrics)
        return None

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        for values, name in ((self.entropies, "entropy"), (self.rewards, "reward")):
            if len(values) < START and math.isfinite(value := metrics.get(name, math.nan)):
                values.append(value)

    def _gained(self, metrics: Mapping[str, float]) -> bool:
        if not self.rewards or "reward" not in metrics:
            return False
        scored = max(metrics.get("episodes", 0) - metrics.get("unscored", 0), 1)
        error = metrics.get("reward_std", 0.0) / scored**0.5
        return metrics["reward"] - statistics.median(self.rewards) > 3 * error

    def _collapse(self, entropy: float, metrics: Mapping[str, float]) -> Finding:
        return Finding(
            f"the policy has collapsed: its entropy is {entropy:.3g} nats a token, under {self.floor:g}",
            f"entropy {_list(self.entropies)} in the first steps; reward {_list(self.rewards)} then, "
            f"{metrics.get('reward', float('nan')):.3g} now",
            "the policy became sure without becoming better: a learning rate too high, clipping that only "
            "lowers entropy, or a reward that one fixed answer satisfies",
            "read the completions: if they are all alike, lower train.learning_rate, raise the upper clip "
            "bound, and go back to a checkpoint before the fall",
        )

    def _explosion(self, entropy: float, start: float, metrics: Mapping[str, float]) -> Finding:
        return Finding(
            f"the policy is dissolving: its entropy is {entropy:.3g} nats a token, after {start:.3g} at the "
            "start",
            f"entropy {_list(self.entropies)} in the first steps; gradient norm "
            f"{metrics.get('grad_norm', float('nan')):.3g}, mean length {metrics.get('length_mean', 0):.0f}",
            "updates that push probability away from everything (many wrong answers, long ones most), an "
            "entropy bonus, or log-probs that engine and learner disagree on",
            "read the completions: if they are gibberish, lower train.learning_rate and go back to a "
            "checkpoint before the rise",
        )


def _estimate(groups: Sequence[Group]) -> float | None:
    values = [x for g in groups for e in g.episodes for x in e.sampler_logp or ()]
    return abs(sum(values)) / len(values) if values else None


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.3g}" for v in values) or "unknown"
