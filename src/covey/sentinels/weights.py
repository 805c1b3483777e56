"""The weights that sample are the weights that are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Weights


@dataclass(kw_only=True)
class EngineWeights(Sentinel):
    """Compares, whenever the engine has loaded weights, a digest of every tensor as the engine computes
    with it (the tied output head among them) with the learner's master weights rounded to the compute
    dtype; and the version each completion says it came from with the version that was loaded."""

    name: ClassVar[str] = "weights"
    level: ClassVar[Level] = "stop"

    version: int | None = field(init=False, default=None)

    def blind(self) -> str | None:
        if self.setting.engine_weights is None:
            return "the engine can't say what it computes with (no fingerprint()): versions only"
        return None

    def loaded(self, step: int, weights: Weights) -> Finding | None:
        self.version = weights.version
        if self.setting.engine_weights is None or self.setting.learner_weights is None:
            return None
        engine, learner = self.setting.engine_weights(), self.setting.learner_weights()
        wrong = [n for n in sorted({*engine, *learner}) if engine.get(n) != learner.get(n)]
        if not wrong:
            return None
        return Finding(
            f"{len(wrong)} of the {len(learner)} tensors the engine computes with are not the learner's",
            f"after {step} steps, at version {weights.version}: " + _shown(wrong, engine, learner),
            "the engine keeps a copy that wasn't (wholly) brought up to date, such as an untied output head "
            "or a layer left out, or something else wrote to its weights",
            "mend how the engine loads weights; completions sampled since the last good load came from "
            "another policy",
        )

    def sampled(self, step: int, groups: Sequence[Group]) -> Finding | None:
        if self.version is None:
            return None
        found = [t.completion.policy_version for g in groups for e in g.episodes for t in e.turns]
        wrong = [v for v in found if v != self.version]
        if not wrong:
            return None
        return Finding(
            f"{len(wrong)} of {len(found)} completions were not sampled by the policy being trained",
            f"the engine was handed version {self.version}; completions say they come from version "
            f"{', '.join(map(str, sorted(set(wrong))))}",
            "the engine answered from weights it should have replaced, or from an old queue",
            "make the engine's load() take effect before the next request is answered",
        )


def _shown(wrong: list[str], engine: Mapping[str, str], learner: Mapping[str, str], most: int = 3) -> str:
    told = [f"{n} is {engine.get(n, 'absent')}, not {learner.get(n, 'absent')}" for n in wrong[:most]]
    more = [f"and {len(wrong) - most} more"] if len(wrong) > most else []
    return "; ".join(told + more)
