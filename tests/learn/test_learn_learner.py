"""One optimizer step: the same however it is split, worth what the groups say, dropped when it is broken."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from covey.kernels.packed import in_c
from covey.learn import PolicyLearner
from covey.learn.batch import MicroBatch, prepare, split
from covey.models import Policy
from covey.protocols import Learner
from covey.types import Group, Score

PolicyOf = Callable[..., Policy]
Rollout = Callable[..., list[Group]]
LearnerOf = Callable[..., PolicyLearner]

REWARDS = [(1.0, 0.0, 0.0), (0.25, 1.0, 0.0, 0.5), (0.0, 1.0, 1.0)]
"""Ten sequences in three groups."""


def gradient(learner: PolicyLearner, parts: Sequence[MicroBatch]) -> dict[str, torch.Tensor]:
    learner.optimizer.clear()
    for part in parts:
        learner.backward(part)
    found = {name: g.clone() for name, g in learner.optimizer.gradients().items()}
    learner.optimizer.clear()
    return found


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """‖g₁ - g₂‖ / ‖g₂‖ over all parameters."""
    assert one.keys() == other.keys()
    apart = sum((one[name] - other[name]).double().square().sum() for name in one)
    return (apart / sum(g.double().square().sum() for g in other.values())).sqrt().item()


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: master.detach().clone() for name, master in policy.master.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# The split.


@pytest.mark.parametrize("algorithm", ["modern", "dr-grpo", "dapo", "gspo", "cispo"])
def test_the_gradient_does_not_depend_on_the_split(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf, algorithm: str
) -> None:
    policy = policy_of()
    learner = learner_of(policy, algorithm)
    sequences = prepare(learner.algorithm, rollout(policy, REWARDS), learner.max_length)
    whole = gradient(learner, [MicroBatch(tuple(sequences))])
    assert min(g.abs().max() for g in whole.values()) > 0
    for count in (2, 8, 10):
        cuts = [round(len(sequences) * i / count) for i in range(count + 1)]
        parts = [MicroBatch(tuple(sequences[a:b])) for a, b in itertools.pairwise(cuts)]
        assert len(parts) == count
        assert distance(gradient(learner, parts), whole) < 1e-6
    for budget in (1, 30, 60, 90):
        assert distance(gradient(learner, list(split(sequences, budget))), whole) < 1e-6


def test_figures_do_not_depend_on_the_budget(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    metrics, counts, samples = [], [], []
    for budget in (1, 60, 10**6):
        policy = policy_of()
        update = learner_of(policy, budget=budget).update(0, rollout(policy, REWARDS))
        figures = dict(update.metrics)
        counts.append(figures.pop("micro_batches"))
        metrics.append(figures)
        samples.append([(s.group, s.sample, s.advantage, s.weight, s.token_ids) for s in update.samples])
    assert counts[0] == 10
    assert counts[2] == 1
    assert samples[0] == samples[1] == samples[2]
    for other in metrics[:2]:
        assert other == pytest.approx(metrics[2], rel=1e-5, abs=1e-6)


def test_the_check_of_the_split_can_fail(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    """Averaged by micro-batch, as if each were a step of its own, the gradient is another."""
    policy = policy_of()
    learner = learner_of(policy)
    sequences = prepare(learner.algorithm, rollout(policy, REWARDS), learner.max_length)
    whole = gradient(learner, [MicroBatch(tuple(sequences))])
    parts = [sequences[:3], sequences[3:]]
    naive = []
    for part in parts:
        tokens = sum(sum(s.chosen) for s in part)
        naive.append(MicroBatch(tuple(replace(s, weight=1 / tokens / len(parts)) for s in part)))
    assert distance(gradient(learner, naive), whole) > 0.05


# What is learned from.


def test_what_is_not_trained_on_leaves_no_trace_in_the_weights(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    one, other = policy_of(), policy_of()
    groups = rollout(one, [(1.0, 0.0, 0.0), (1.0, 1.0), (0.25, 1.0, 0.0, 0.5)])
    excluded = replace(groups[1], excluded="zero variance")
    unscored = replace(groups[2], scores=(*groups[2].scores[:2], Score(None), groups[2].scores[3]))
    left = (0, 1, 3)
    cut = replace(
        groups[2],
        episodes=tuple(groups[2].episodes[s] for s in left),
        scores=tuple(groups[2].scores[s] for s in left),
    )
    update = learner_of(one).update(0, [groups[0], excluded, unscored])
    learner_of(other).update(0, [groups[0], cut])
    assert same(weights(one), weights(other))
    assert {(s.group, s.sample) for s in update.samples} == {(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 3)}
    assert update.metrics["groups"] == 3
    assert update.metrics["groups_trained"] == 2
    assert update.metrics["episodes"] == 9
    assert update.metrics["episodes_trained"] == 6
    assert update.metrics["unscored"] == 1
    # over the scored ones, excluded groups too: (1 + 0 + 0 + 1 + 1 + 0.25 + 1 + 0.5) / 8
    assert update.metrics["reward"] == pytest.approx(4.75 / 8)


def test_without_a_signal_nothing_moves(policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf) -> None:
    policy = policy_of()
    learner = learner_of(policy)
    assert isinstance(learner, Learner)
    before = weights(policy)
    groups = [replace(group, excluded="zero variance") for group in rollout(policy, [(1.0, 1.0)])]
    update = learner.update(0, groups)
    assert not update.trained
    assert update.samples == ()
    assert "loss" not in update.metrics
    assert same(weights(policy), before)
    assert learner.weights().version == 0
    assert learner.optimizer.state() == {}


def test_the_loss_is_the_one_on_paper(policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf) -> None:
    """On policy every ratio is 1, so that the loss is Σ weight × (−Â) over all tokens."""
    policy = policy_of()
    groups = rollout(policy, [(1.0, 0.0, 0.0), (0.5, 1.0)])
    lengths = [[episode.chosen for episode in group.episodes] for group in groups]
    assert lengths == [[2, 7, 5], [2, 7]]
    update = learner_of(policy).update(0, groups)
    # 23 tokens; Â = 2/3, -1/3, -1/3 and -1/4, 1/4:
    # -(2 × 2/3 - 7 × 1/3 - 5 × 1/3 - 2 × 1/4 + 7 × 1/4) / 23 = -(-8/3 + 5/4) / 23 = 17/12/23 = 0.0616
    assert update.metrics["loss"] == pytest.approx(17 / 12 / 23, rel=1e-6)
    assert update.metrics["tokens_trained"] == 23
    by_sample = sum(-s.advantage * w for s in update.samples for w in s.weight)
    assert by_sample == pytest.approx(17 / 12 / 23, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_policy_every_ratio_is_one(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf, dtype: str, temperature: float
) -> None:
    policy = policy_of(dtype)
    groups = rollout(policy, REWARDS, temperature)
    update = learner_of(policy, temperature=temperature).update(0, groups)
    figures = update.metrics
    assert figures["ratio_min"] == figures["ratio_max"] == figures["ratio_mean"] == 1.0
    assert figures["clip_low"] == figures["clip_high"] == figures["kl_old"] == 0.0
    # and what the engine reported is what the learner finds: in fp32 but for rounding
    bound = 1e-5 if dtype == "float32" else 0.05
    for sample in update.samples:
        assert sample.logp == pytest.approx(sample.sampler_logp, abs=bound)
        assert sample.token_ids == groups[sample.group].episodes[sample.sample].turns[0].completion.token_ids
    # a learner that speaks of another temperature is found out
    other = learner_of(policy_of(dtype), temperature=1.4).update(0, groups)
    assert other.metrics["mismatch_abs"] > 5 * figures["mismatch_abs"]


def test_the_update_raises_what_was_rewarded(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    policy = policy_of()
    groups = rollout(policy, [(1.0, 0.0, 0.0)])
    learner = learner_of(policy, learning_rate=1e-3)
    first = learner.update(0, groups)
    again = learner.update(1, groups)

    def moved(sample: int) -> float:
        return sum(again.samples[sample].logp) - sum(first.samples[sample].logp)

    assert moved(0) > 0 > moved(1) + moved(2)


# Broken steps.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_dropped(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf, dtype: str, value: float
) -> None:
    policy, untouched = policy_of(dtype), policy_of(dtype)
    learner = learner_of(policy)
    groups = rollout(policy, REWARDS)
    before = weights(policy)
    module = {name: p.detach().clone() for name, p in policy.parameters()}
    spoilt = policy.head.weight.register_hook(lambda gradient: gradient * value)
    update = learner.update(0, groups)
    spoilt.remove()
    assert not update.trained
    assert not torch.isfinite(torch.tensor(update.metrics["grad_norm"]))
    assert same(weights(policy), before)
    assert same({name: p.detach() for name, p in policy.parameters()}, module)
    assert learner.optimizer.gradients() == {}
    assert learner.optimizer.state() == {}
    assert learner.weights().version == 0
    assert len(update.samples) == 10  # what it was, is recorded all the same
    # the next step is as if the broken one had never been
    assert learner.update(1, groups).trained
    learner_of(untouched).update(1, groups)
    assert same(weights(policy), weights(untouched))


def test_a_loss_that_is_not_finite_is_dropped(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    policy = policy_of()
    before = weights(policy)
    # beyond float32's 3.4e38 the advantages become infinite
    update = learner_of(policy).update(0, rollout(policy, [(1e39, -1e39)]))
    assert not update.trained
    assert same(weights(policy), before)


# Precision and reference.


def test_bf16_gradients_are_summed_in_fp32(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    policy = policy_of("bfloat16")
    learner = learner_of(policy)
    sequences = prepare(learner.algorithm, rollout(policy, REWARDS), learner.max_length)
    parts = list(split(sequences, 1))
    alone = [gradient(learner, [part]) for part in parts]
    together = gradient(learner, parts)
    for name, summed in together.items():
        assert summed.dtype is torch.float32
        want = torch.zeros_like(summed)
        for one in alone:
            if rounded := summed.dim() == 1 or not in_c(torch.bfloat16):  # no kernel adds it as it is made
                assert torch.equal(one[name], one[name].bfloat16().float())
            want += one[name]
        # of a tied matrix, two gradients a pass are added one after the other: another order of fp32 sums
        apart = 0.0 if rounded else 1e-6 * want.abs().max().item()
        assert (summed - want).abs().max() <= apart, name
    assert any(not torch.equal(g, g.bfloat16().float()) for g in together.values())
    assert all(parameter.grad is None for _, parameter in policy.parameters())


def test_a_reference_is_compared_with_and_never_moved(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    """DeepSeekMath's KL: nothing before the first step, and then it pulls back."""
    policy, reference = policy_of(), policy_of()
    frozen = weights(reference)
    learner = learner_of(policy, "grpo", reference=reference)
    groups = rollout(policy, REWARDS)
    first, second = learner.update(0, groups), learner.update(1, groups)
    assert first.metrics["kl_ref"] == 0.0
    assert second.metrics["kl_ref"] > 1e-4
    # what β KL adds to the loss: β = 0.04
    plain = sum(-s.advantage * sum(s.weight) for s in second.samples)
    gap = second.metrics["loss"] - plain
    assert 0 < gap < 0.04 * 10 * second.metrics["kl_ref"]
    assert same(weights(reference), frozen)
    assert all(parameter.grad is None for _, parameter in reference.parameters())
    with pytest.raises(ValueError, match="compares with a reference policy, but none was given"):
        learner_of(policy, "grpo")
