"""It learns: a small random model, its own samples, and nothing but a reward."""

from __future__ import annotations

import pytest

from covey.algo import preset
from covey.engines import LocalEngine
from covey.learn import Optimizer, PolicyLearner, Schedule
from covey.models import load_policy
from covey.rewards.number import Number
from covey.rollout import SynchronousSource
from covey.tasks.arithmetic import Arithmetic
from covey.types import Sampling


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_random_model_learns_sums_from_their_reward(seed: int) -> None:
    """0+0 to 2+2: guessing one of 99 characters is right in a hundredth, always answering "2" in 3/8."""
    config = {"family": "llama", "hidden_size": 128, "kv_heads": 4, "intermediate_size": 256, "seed": seed}
    policy = load_policy(config, dtype="float32")
    policy.chat.templated = False  # the sum alone: there is no language to be learned around it
    task = Arithmetic(low=0, high=2, prompt="{a}{op}{b}=")
    engine = LocalEngine(policy)
    source = SynchronousSource(
        task.problems("train"), engine, policy.chat, Number(), Sampling(1),
        problems_per_step=7, group_size=32, seed=seed, refills=0,
    )  # fmt: skip
    learner = PolicyLearner(
        policy, preset("modern"), Optimizer(policy, Schedule(1e-3)), budget=10**6, max_length=1
    )
    rewards = []
    for step in range(65):
        update = learner.update(step, source.next(step))
        engine.load(learner.weights())
        rewards.append(update.metrics["reward"])
        if update.trained:
            assert update.metrics["ratio_min"] == update.metrics["ratio_max"] == 1.0
            assert update.metrics["mismatch_abs"] < 1e-5
    assert sum(rewards[:3]) / 3 < 0.1
    assert sum(rewards[-5:]) / 5 > 0.85
