"""Several optimizer steps on one rollout, and what a look at it before the first one finds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from covey.algo import Algorithm, preset
from covey.learn import Optimizer, PolicyLearner, Schedule
from covey.learn.batch import Trained, mini_batches, prepare
from covey.learn.look import penalties, select
from covey.models import Policy, load_policy
from covey.types import Completion, Episode, Group, Problem, Score, StopReason, Turn

CONFIG = {
    "family": "llama",
    "hidden_size": 16,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "intermediate_size": 16,
}
BUDGET = 60


def policy() -> Policy:
    return load_policy(CONFIG, dtype="float32", device="cpu")


def learner(algorithm: Algorithm, **options: int) -> PolicyLearner:
    model = policy()
    optimizer = Optimizer(model, Schedule(1e-2))
    reference = policy() if algorithm.needs_reference else None
    return PolicyLearner(
        model, algorithm, optimizer, budget=BUDGET, max_length=6, reference=reference, **options
    )


def group(number: int, rewards: tuple[float, ...] = (1.0, 0.0, 0.0)) -> Group:
    problem = Problem(f"p{number}", ())
    episodes = []
    for sample in range(len(rewards)):
        ids = tuple(5 + (7 * number + 3 * sample + t) % 60 for t in range(2 + (number + sample) % 4))
        done = Completion(ids, tuple(-4.0 - t / 8 for t in range(len(ids))), StopReason.END, 0)
        episodes.append(Episode(problem, sample, (Turn((1, 2, 3 + number), done),)))
    return Group(problem, tuple(episodes), tuple(Score(r) for r in rewards))


GROUPS = [group(0), replace(group(1), excluded="zero variance"), group(2), group(3), group(4), group(5)]


def sizes(groups: int, parts: int) -> list[int]:
    sequences = [Trained(g, s, (), (), (), (), 0.0, 0.0) for g in range(groups) for s in range(2)]
    return [len({s.group for s in part}) for part in mini_batches(sequences, parts)]


def test_mini_batches_are_whole_groups_in_order_the_larger_first() -> None:
    assert sizes(7, 3) == [3, 2, 2]
    assert sizes(4, 4) == [1, 1, 1, 1]
    assert sizes(2, 5) == [1, 1]  # never an empty optimizer step
    assert sizes(0, 2) == []


def test_each_mini_batch_has_token_weights_of_its_own() -> None:
    for part in mini_batches(prepare(preset("modern"), GROUPS, 6, parts=2), 2):
        assert sum(s.weight * len(s.reply) for s in part) == pytest.approx(1, rel=1e-12)


def test_the_ratio_is_one_at_the_first_optimizer_step_and_not_after() -> None:
    update = learner(preset("modern"), parts=2).update(0, GROUPS)
    assert update.metrics["optimizer_steps"] == 2
    assert [update.metrics[f"first_ratio_{k}"] for k in ("min", "max")] == pytest.approx([1, 1], abs=1e-5)
    assert update.metrics["ratio_max"] > 1.001
    first, second = mini_batches(update.samples, 2)
    assert all(s.logp == pytest.approx(s.old_logp, abs=1e-5) for s in first)
    assert any(abs(a - b) > 1e-3 for s in second for a, b in zip(s.logp, s.old_logp, strict=True))


def test_mini_batches_are_the_steps_a_learner_would_take_one_by_one() -> None:
    """On-policy REINFORCE has no ratio, so that two halves are two rollouts."""
    algorithm = preset("nanochat")
    both, single = learner(algorithm, parts=2), learner(algorithm)
    both.update(0, GROUPS)
    single.update(0, GROUPS[:4])
    single.update(0, GROUPS[4:])
    assert both.policy.version == single.policy.version == 2
    for name, master in both.policy.master.items():
        torch.testing.assert_close(master, single.policy.master[name], rtol=1e-5, atol=1e-7)


def test_epochs_go_over_the_rollout_again_and_record_the_first() -> None:
    one = learner(preset("modern"), epochs=3)
    update = one.update(0, GROUPS)
    assert one.policy.version == update.metrics["optimizer_steps"] == 3
    assert len(update.samples) == 15  # 5 trained groups of 3, once
    assert update.metrics["kl_old"] > 0


def test_a_dropped_step_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    one = learner(preset("modern"), parts=2)
    norms = iter([math.nan, 1.0])
    monkeypatch.setattr(one.optimizer, "norm", lambda: next(norms))
    update = one.update(0, GROUPS)
    assert update.trained
    assert update.metrics["optimizer_steps"] == one.policy.version == 1
    assert math.isnan(update.metrics["grad_norm"])


def test_one_step_looks_at_nothing_and_records_nothing_more() -> None:
    update = learner(preset("grpo")).update(0, GROUPS)
    assert "optimizer_steps" not in update.metrics
    assert not any((s.old_logp, s.ref_logp, s.selected) != ((), (), ()) for s in update.samples)


def moved(algorithm: Algorithm) -> PolicyLearner:
    """With a reference that the policy isn't."""
    one = learner(algorithm)
    assert one.reference is not None
    with torch.no_grad():
        for parameter in one.reference.module.parameters():
            parameter.mul_(1.2)
    return one


def test_a_kl_in_the_reward_comes_off_before_advantages_are_taken() -> None:
    algorithm = preset("rloo")
    update = moved(algorithm).update(0, GROUPS)
    for sample in update.samples:
        # 0.03 Σ (log π - log π_ref), k1 of the sequence
        expected = 0.03 * sum(a - b for a, b in zip(sample.old_logp, sample.ref_logp, strict=True))
        assert penalties(algorithm, [sample]) == pytest.approx([expected], abs=1e-9)
    one, two, three = update.samples[:3]
    priced = [r - p for r, p in zip((1.0, 0.0, 0.0), penalties(algorithm, [one, two, three]), strict=True)]
    assert one.advantage == pytest.approx(priced[0] - (priced[1] + priced[2]) / 2, abs=1e-12)
    assert one.advantage != 1.0  # without the KL: 1 - (0 + 0) / 2


def test_selected_tokens_are_those_of_the_whole_step_whatever_the_split() -> None:
    algorithm = preset("80-20")
    whole, pieces = learner(algorithm), learner(algorithm)
    pieces.budget = 1
    one, other = whole.update(0, GROUPS), pieces.update(0, GROUPS)
    assert one.metrics["micro_batches"] < other.metrics["micro_batches"] == 15
    assert [s.selected for s in one.samples] == [s.selected for s in other.samples]
    tokens = sum(len(s.selected) for s in one.samples)
    assert sum(sum(s.selected) for s in one.samples) == int(0.2 * tokens)
    assert one.metrics["grad_norm"] == pytest.approx(other.metrics["grad_norm"], rel=1e-5)


def test_draws_belong_to_the_token_and_to_the_seed() -> None:
    algorithm = preset("clip-cov").replace(
        selection={"name": "covariance_band", "fraction": 0.5, "low": -99.0, "high": 99.0}
    )
    sequences = [
        replace(s, old_logp=tuple(-1.0 - t for t in range(len(s.reply))))
        for s in prepare(algorithm, GROUPS, 6)
    ]
    entropy = [torch.ones(len(s.reply)) for s in sequences]

    def marks(seed: int, step: int) -> list[tuple[float, ...]]:
        return [s.selected for s in select(algorithm, sequences, entropy, seed=seed, step=step)]

    assert marks(0, 3) == marks(0, 3)
    assert marks(0, 3) != marks(1, 3)
    assert marks(0, 3) != marks(0, 4)


def test_a_loss_that_depends_on_the_split_is_refused() -> None:
    with pytest.raises(ValueError, match="depend on how a step is split"):
        learner(preset("unsloth"))
