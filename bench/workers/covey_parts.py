"""Worker: Covey's engine and learner, called one at a time.

Settings: ``model`` (a folder, or a tiny model's description), ``dtype``, and ``memory_gb`` for the update.
"""

from __future__ import annotations

import os
import time
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "8000")  # as the command line does, before torch is imported

from covey.algo import preset
from covey.build.components import build_engine
from covey.config import Component
from covey.learn import Optimizer, PolicyLearner, Schedule, footprint
from covey.models import load_policy
from covey.types import DrawKey, Episode, Group, Problem, Request, Sampling, Score, Turn
from harness.channel import Channel, forget_peak, peak_gb, serve, settings, versions


class Parts:
    """The model's end tokens never end a reply here: lengths are forced, the same for every system."""

    def __init__(self, model: Any, dtype: str = "auto", memory_gb: float = 1.0) -> None:
        self.policy = load_policy(model, dtype=dtype)
        self.policy.end_ids = frozenset()
        self.engine = build_engine(Component(name="local"), self.policy)
        self.memory_gb = memory_gb
        self.optimizer = Optimizer(self.policy, Schedule(1e-6))
        self.learner = self._learner(1)
        self.engine.load(self.learner.weights())
        self.step = 0
        self.groups: list[Group] = []

    def _learner(self, longest: int) -> PolicyLearner:
        budget = footprint(self.policy, longest=longest).tokens(self.memory_gb * 2**30)
        return PolicyLearner(self.policy, preset("modern"), self.optimizer, budget=budget, max_length=longest)

    def rollout(self, groups: list[dict[str, Any]]) -> dict[str, Any]:
        """Sample replies of the asked lengths to prompts of token ids; kept for `update`."""
        self.step += 1
        requests = [
            Request(tuple(g["prompt_ids"]), Sampling(length), DrawKey(0, self.step, str(p), n))
            for p, g in enumerate(groups)
            for n, length in enumerate(g["lengths"])
        ]
        forget_peak()
        began = time.perf_counter()
        answers = dict(self.engine.generate(requests))
        seconds = time.perf_counter() - began
        peak = peak_gb()
        completions = iter([answers[i] for i in range(len(requests))])
        self.groups = []
        for p, g in enumerate(groups):
            problem, ids = Problem(str(p), ()), tuple(g["prompt_ids"])
            episodes = tuple(
                Episode(problem, n, (Turn(ids, next(completions)),)) for n in range(len(g["lengths"]))
            )
            # every other reply is right, so that each group has a signal
            self.groups.append(Group(problem, episodes, tuple(Score(float(e.sample % 2)) for e in episodes)))
        lengths = [[e.chosen for e in group.episodes] for group in self.groups]
        assert lengths == [g["lengths"] for g in groups]
        return {"seconds": seconds, "tokens": sum(map(sum, lengths)), "peak_gb": peak}

    def update(self) -> dict[str, Any]:
        """One optimizer step on the last rollout, and what it takes until the engine samples from it."""
        self.learner = self._learner(max(len(e.token_ids) for g in self.groups for e in g.episodes))
        forget_peak()
        began = time.perf_counter()
        update = self.learner.update(self.step, self.groups)
        learned = time.perf_counter()
        self.engine.load(self.learner.weights())
        loaded = time.perf_counter()
        assert update.trained
        return {
            "seconds": learned - began,
            "load_seconds": loaded - learned,
            "micro_batches": int(update.metrics["micro_batches"]),
            "peak_gb": peak_gb(),
        }


if __name__ == "__main__":
    channel = Channel()
    parts = Parts(**settings())
    channel.send(versions=versions("torch", "transformers"), vocabulary=parts.policy.vocabulary)
    serve(channel, {"rollout": parts.rollout, "update": parts.update})
