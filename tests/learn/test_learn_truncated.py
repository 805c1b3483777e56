"""Learning from truncated sampling: the learner's distribution is over the ids that were kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from covey.algo import preset
from covey.learn import Optimizer, PolicyLearner, Schedule
from covey.learn.batch import MicroBatch, prepare
from covey.learn.memory import footprint
from covey.models import Policy
from covey.types import Completion, CoveyError, Episode, Group, StopReason, Turn

PolicyOf = Callable[..., Policy]
LearnerOf = Callable[..., PolicyLearner]
Rollout = Callable[..., list[Group]]

REWARDS = [(1.0, 0.0, 0.0), (0.5, 1.0)]
CUT = {"top_k": 20, "top_p": 0.8}


def changed(groups: list[Group], change: Callable[[Completion], Completion]) -> list[Group]:
    """The groups with every completion changed."""

    def episode(e: Episode) -> Episode:
        return replace(e, turns=tuple(replace(turn, completion=change(turn.completion)) for turn in e.turns))

    return [replace(group, episodes=tuple(map(episode, group.episodes))) for group in groups]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sampler_and_learner_agree(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf, dtype: str, temperature: float
) -> None:
    policy = policy_of(dtype)
    groups = rollout(policy, REWARDS, temperature, **CUT)
    update = learner_of(policy, temperature=temperature).update(0, groups)
    figures = update.metrics
    assert figures["ratio_min"] == figures["ratio_max"] == 1.0
    bound = 1e-5 if dtype == "float32" else 0.05
    for sample in update.samples:
        assert sample.logp == pytest.approx(sample.sampler_logp, abs=bound)
    # entropy is that of at most 20 ids, and these models find all about equally likely
    assert figures["entropy"] < torch.tensor(20.0).log()
    # a learner that takes its log-probs over all ids is off: by what was cut off, at every token
    forgotten = changed(groups, lambda done: replace(done, kept=None))
    blind = learner_of(policy_of(dtype), temperature=temperature).update(0, forgotten)
    assert blind.metrics["mismatch_abs"] > 1


def test_the_reference_is_over_the_same_ids(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    policy = policy_of()
    groups = rollout(policy, REWARDS, **CUT)
    learner = learner_of(policy, "grpo", reference=policy_of())
    # the policy is still its reference: whatever was kept, they are apart by nothing
    assert learner.update(0, groups).metrics["kl_ref"] == pytest.approx(0, abs=1e-9)


def test_a_look_before_the_update_is_over_the_same_ids(policy_of: PolicyOf, rollout: Rollout) -> None:
    policy = policy_of()
    groups = rollout(policy, REWARDS, **CUT)
    learner = PolicyLearner(
        policy, preset("modern"), Optimizer(policy, Schedule(1e-2)), budget=10**6, max_length=8, epochs=2
    )
    assert learner.looks
    update = learner.update(0, groups)
    assert update.metrics["first_ratio_max"] == pytest.approx(1, abs=1e-6)
    for sample in update.samples:
        assert sample.old_logp == pytest.approx(sample.sampler_logp, abs=1e-5)


def test_micro_batches_change_nothing(policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf) -> None:
    groups = rollout(policy_of(), REWARDS, **CUT)
    whole, pieces = (learner_of(policy_of(), budget=budget).update(0, groups) for budget in (10**6, 1))
    assert (whole.metrics["micro_batches"], pieces.metrics["micro_batches"]) == (1, 5)
    for name in ("loss", "grad_norm", "entropy"):
        assert pieces.metrics[name] == pytest.approx(whole.metrics[name], rel=1e-4, abs=1e-7)


def test_a_token_that_can_t_have_been_drawn_is_refused(
    policy_of: PolicyOf, rollout: Rollout, learner_of: LearnerOf
) -> None:
    policy = policy_of()
    groups = rollout(policy, REWARDS, **CUT)

    def without(done: Completion) -> Completion:
        pairs = zip(done.kept or (), done.token_ids, strict=True)
        return replace(done, kept=tuple(tuple(i for i in ids if i != token) for ids, token in pairs))

    with pytest.raises(CoveyError, match="isn't among the"):
        learner_of(policy).update(0, changed(groups, without))


def test_what_is_cut_in_part_is_refused(policy_of: PolicyOf, rollout: Rollout) -> None:
    policy = policy_of()
    cut, whole = (prepare(preset("modern"), rollout(policy, REWARDS, **how), 8) for how in (CUT, {}))
    with pytest.raises(CoveyError, match="some sequences were sampled from truncated"):
        MicroBatch((cut[0], whole[1])).pack(policy)
    done = Completion((5,), (-1.0,), StopReason.END, 0)
    turns = (Turn((1,), done), Turn((2,), replace(done, kept=((5,),))))
    problem: Any = rollout(policy, REWARDS)[0].problem
    with pytest.raises(ValueError, match="some replies"):
        _ = Episode(problem, 0, turns).kept
    assert Episode(problem, 0, (turns[1], turns[1])).kept == ((5,), (5,))


def test_kept_ids_take_memory(policy_of: PolicyOf) -> None:
    policy = policy_of()
    plain, cut = (footprint(policy, longest=100, kept=kept) for kept in (0, 20))
    assert plain == footprint(policy, longest=100)
    # 8 bytes an id for the micro-batch, 64 while its chunk is under way
    assert cut.per_token - plain.per_token == 8 * 20
    assert cut.logits - plain.logits == 64 * 20
    assert footprint(policy, longest=100, kept=10**6) == footprint(
        policy, longest=100, kept=policy.vocabulary
    )
