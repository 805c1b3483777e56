"""What a bonus for entropy does to the gradient, and coefficients that move from step to step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from covey import kernels
from covey.algo import preset
from covey.learn import PolicyLearner
from covey.learn.batch import MicroBatch, prepare
from covey.learn.look import reference_distance
from covey.learn.split import split_difference
from covey.models import Policy
from covey.types import Group

PolicyOf = Callable[..., Policy]
Rollout = Callable[..., list[Group]]
LearnerOf = Callable[..., PolicyLearner]

REWARDS = [(1.0, 0.0, 0.0), (0.25, 1.0, 0.0, 0.5), (0.0, 1.0, 1.0)]
ALIKE = [(1.0, 1.0), (0.5, 0.5, 0.5)]
"""Without any advantage: all that is left of the loss is the bonus."""

PAID = preset("dr-grpo").replace(entropy={"name": "bonus", "coefficient": 0.125})
MOVED = preset("grpo").replace(
    kl_control={"name": "adaptive", "target": 0.1, "horizon": 50},
    entropy={"name": "bonus", "coefficient": 0.01},
    entropy_control={"name": "adaptive", "target": 9.0},
)


def gradient(learner: PolicyLearner, parts: list[MicroBatch]) -> dict[str, torch.Tensor]:
    learner.optimizer.clear()
    for part in parts:
        learner.backward(part)
    found = {name: g.clone() for name, g in learner.optimizer.gradients().items()}
    learner.optimizer.clear()
    return found


@pytest.mark.parametrize("with_kernels", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_gradient_is_that_of_the_weighted_entropies(
    policy_of: PolicyOf,
    rollout: Rollout,
    learner_of: LearnerOf,
    monkeypatch: pytest.MonkeyPatch,
    with_kernels: bool,
    temperature: float,
) -> None:
    if with_kernels and kernels.why_not() is not None:
        pytest.skip(f"no kernels: {kernels.why_not()}")
    groups = rollout(policy_of(), ALIKE, temperature)
    policy = policy_of()
    assert (policy.dense is not None) == (kernels.why_not() is None)
    if not with_kernels:
        monkeypatch.setattr(kernels, "usable", lambda *tensors: False)
        monkeypatch.setattr(policy, "dense", None)
    learner = learner_of(policy, PAID, temperature=temperature)
    part = MicroBatch(tuple(prepare(PAID, groups, learner.max_length)))
    found = gradient(learner, [part])

    # the same over torch alone: -c Σ weight · H, from a softmax of all logits at once
    monkeypatch.setattr(kernels, "usable", lambda *tensors: False)
    plain = policy_of()
    plain.dense = None
    packed = part.pack(plain)
    hidden = plain.hidden(packed.token_ids, packed.tree, packed.tree.positions)
    log = (plain.head(hidden[packed.predictors]) / temperature).log_softmax(1)
    weight = torch.tensor([s.weight for s in part.sequences])[packed.sequence]
    (-0.125 * (weight * -(log.exp() * log).sum(1)).sum()).backward()
    expected = {name: p.grad for name, p in plain.parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert sum(g.norm() for g in found.values()) > 1e-4
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-7, msg=name)


def test_without_a_signal_the_bonus_raises_entropy(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    policy = policy_of()
    groups = rollout(policy, ALIKE)
    learner = learner_of(
        policy, PAID.replace(entropy={"name": "bonus", "coefficient": 1.0}), learning_rate=1e-3
    )
    seen = [learner.update(step, groups).metrics["entropy"] for step in range(4)]
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def test_the_split_changes_nothing(policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf) -> None:
    policy = policy_of()
    groups = rollout(policy, REWARDS)
    learner = learner_of(policy, MOVED, reference=policy_of(seed=2))
    found = split_difference(learner, groups)
    assert found is not None
    assert found < 1e-5
    pieces = learner_of(policy_of(), MOVED, reference=policy_of(seed=2), budget=1)
    one, other = learner.update(0, groups), pieces.update(0, groups)
    assert one.metrics["micro_batches"] == 1
    assert other.metrics["micro_batches"] == 10
    for name in ("loss", "entropy", "grad_norm", "kl_sequence"):
        assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-4), name
    assert learner.held.kl == pytest.approx(pieces.held.kl)


def test_the_record_has_what_the_terms_read_and_no_more(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    policy = policy_of()
    groups = rollout(policy, REWARDS)
    kept = {}
    for name, algorithm in (("grpo", preset("grpo")), ("paid", PAID), ("moved", MOVED)):
        learner = learner_of(policy_of(), algorithm, reference=policy_of(seed=2))
        samples = learner.update(0, groups).samples
        kept[name] = {c for c in ("ref_logp", "entropy", "old_logp") for s in samples if getattr(s, c)}
        for s in samples:
            assert len(s.entropy) in (0, len(s.logp))
    assert kept == {"grpo": set(), "paid": {"entropy"}, "moved": {"ref_logp", "entropy"}}


def test_coefficients_move_by_what_their_step_measured(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    policy = policy_of()
    groups = rollout(policy, REWARDS)
    learner = learner_of(policy, MOVED, reference=policy_of(seed=2))
    rows = []
    for step in range(3):
        update = learner.update(step, groups)
        assert update.metrics["kl_sequence"] == reference_distance(update.samples)
        rows.append(update.metrics)
    assert rows[0]["kl_coefficient"] == 0.04
    for before, after in pairwise(rows):
        error = min(max(before["kl_sequence"] / 0.1 - 1, -0.2), 0.2)
        factor = 1 + error * 10 / 50  # ten sequences, horizon 50
        assert factor != 1
        assert after["kl_coefficient"] == pytest.approx(before["kl_coefficient"] * factor, rel=1e-12)
    assert [row["entropy_coefficient"] for row in rows] == pytest.approx([0.01, 0.015, 0.02])
    again = learner_of(policy_of(), MOVED, reference=policy_of(seed=2))
    again.follow(rows)
    assert again.held == learner.held
    assert again.current == learner.current
