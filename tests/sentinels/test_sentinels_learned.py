"""Sentinels that look at what was learned: what they find and what they let pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from covey.sentinels import SENTINELS, Finding, Setting
from covey.types import Group, Sample, Update, Weights
from sentinels_plain import MARKS, complete, episode, group, learned, posted, trained

NAN = math.nan


# tokens


def both() -> tuple[list[Group], list[Sample]]:
    a, b = episode(0), episode(1, ids=(8, 9))
    return [group(excluded="zero variance"), group(a, b)], [trained(1, a), trained(1, b)]


def tokens_finding(groups: Sequence[Group], samples: Sequence[Sample]) -> Finding | None:
    return posted("tokens").learned(0, groups, Update(True, {}, tuple(samples)))


def test_what_was_sampled_and_trained_passes() -> None:
    groups, samples = both()
    assert tokens_finding(groups, samples) is None
    assert tokens_finding(groups, [replace(s, token_ids=()) for s in samples]) is None
    assert tokens_finding(groups, []) is None  # nothing was trained


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"token_ids": (5, 66, 7)}, "group 1 sample 0: token 1 is 66, sampled was 6"),
        ({"token_ids": (5, 6)}, "2 tokens were trained for 3 sampled ones"),
        ({"weight": (0.1, 0.1)}, "2 values of weight for 3 sampled tokens"),
        ({"logp": (-1.0,) * 4}, "4 values of logp for 3 sampled tokens"),
        ({"sampler_logp": (-1.0, -1.0, -2.0)}, "sampler_logp are not those the engine reported"),
        ({"group": 0}, "group 0 sample 0 was trained though it is excluded"),
        (
            {"sample": 1},
            "group 1 sample 1 was trained though it is excluded, unscored, not there, or there twice",
        ),
    ],
)
def test_a_sample_that_is_not_its_episode_is_named(change: dict[str, Any], shown: str) -> None:
    groups, samples = both()
    finding = complete(tokens_finding(groups, [replace(samples[0], **change), samples[1]]))
    assert shown in finding.evidence


def test_a_conversation_passes_and_what_its_environment_said_is_not_sampled() -> None:
    turns = [*episode(0).turns, *episode(0, ids=(8, 9), prompt=(3, 4)).turns]
    talk, other = replace(episode(0), turns=tuple(turns)), episode(1)
    groups = [group(talk, other)]
    assert tokens_finding(groups, [trained(0, talk), trained(0, other)]) is None
    shifted = trained(0, talk, token_ids=(5, 6, 7, 3, 8))  # 3 is the environment's
    finding = complete(tokens_finding(groups, [shifted, trained(0, other)]))
    assert "group 0 sample 0: token 3 is 3, sampled was 8" in finding.evidence


def test_a_sample_left_out_is_named() -> None:
    groups, samples = both()
    assert "group 1 sample 1 was left out" in complete(tokens_finding(groups, samples[:1])).evidence


def test_an_unscored_episode_is_not_due() -> None:
    a, b, c = episode(0), episode(1), episode(2)
    groups = [group(a, b, c, scores=(1.0, None, 0.0))]
    assert tokens_finding(groups, [trained(0, a), trained(0, c)]) is None
    assert tokens_finding(groups, [trained(0, a), trained(0, b), trained(0, c)]) is not None


# non_finite


def test_a_skipped_step_warns_and_several_in_a_row_stop() -> None:
    sentinel = posted("non_finite", patience=3)
    levels = []
    for loss in (NAN, 0.5, NAN, math.inf, NAN):
        finding = learned(sentinel, {"loss": loss, "grad_norm": 1.0})
        levels.append("fine" if finding is None else complete(finding).level)
    assert levels == ["warn", "fine", "warn", "warn", None]  # None is the sentinel's own level, a stop


def test_a_gradient_alone_may_be_what_is_not_finite_and_the_place_is_named() -> None:
    e = episode(0)
    update = Update(
        False, {"loss": 0.1, "grad_norm": math.inf}, (trained(0, e, logp=(-1.0, -math.inf, -1.0)),)
    )
    finding = complete(posted("non_finite").learned(0, [group(e)], update))
    assert "grad_norm inf" in finding.evidence
    assert "logp of token 1 in group 0 sample 0 is -inf" in finding.evidence


# zero_gradient


@pytest.mark.parametrize(
    ("norm", "advantage", "extra", "found"),
    [
        (0.0, 0.5, {}, True),
        (1e-9, 0.5, {}, False),
        (0.0, 0.0, {}, False),  # no signal: the gradient is rightly zero
        (0.0, 0.5, {"correction": 0.0}, False),  # every token masked by a correction, which says so
        (0.0, 0.5, {"correction": 0.5}, True),
    ],
)
def test_a_signal_without_a_gradient_is_found(
    norm: float, advantage: float, extra: dict[str, float], found: bool
) -> None:
    e = episode(0)
    update = Update(True, {"grad_norm": norm, "loss": 0.0, **extra}, (trained(0, e, advantage=advantage),))
    finding = posted("zero_gradient").learned(0, [group(e)], update)
    assert (finding is not None) is found
    if found:
        complete(finding)


# ratio


def ratios(low: float, mean: float, high: float, **more: float) -> dict[str, float]:
    return {"ratio_min": low, "ratio_mean": mean, "ratio_max": high, **more}


def several(first: dict[str, float], all_of_them: dict[str, float]) -> dict[str, float]:
    return all_of_them | {f"first_{name}": value for name, value in first.items()}


@pytest.mark.parametrize(
    ("metrics", "anchor", "found"),
    [
        (ratios(1, 1, 1, clip_low=0.0, clip_high=0.0), "learner", False),
        (ratios(0.9, 1, 1.1), "learner", True),
        (ratios(1, 1, 1, clip_high=0.01), "learner", True),
        (ratios(0.9, 1.001, 1.1, clip_low=0.01), "sampler", False),  # rounding of the engine's format
        (ratios(0.9, 1.05, 1.4), "sampler", True),
        (ratios(NAN, NAN, NAN), "learner", False),  # non_finite speaks for it
        ({}, "learner", False),  # nothing was trained
        # several optimizer steps on one rollout: only the first starts where it was sampled
        (several(ratios(1, 1, 1), ratios(0.7, 1.02, 1.6, clip_high=0.1)), "learner", False),
        (several(ratios(0.9, 1, 1.1), ratios(0.7, 1.02, 1.6)), "learner", True),
        (several(ratios(1, 1, 1, clip_low=0.1), ratios(1, 1, 1)), "learner", True),
    ],
)
def test_the_ratio_is_one_on_fresh_samples(metrics: dict[str, float], anchor: Any, found: bool) -> None:
    finding = learned(posted("ratio", Setting(anchor=anchor)), metrics)
    assert (finding is not None) is found
    if found:
        assert anchor in complete(finding).evidence


# mismatch


def gaps(kl: float, gap: float) -> dict[str, float]:
    return {
        "mismatch_k3": kl,
        "mismatch_abs": gap,
        "mismatch_ratio_min": 0.9,
        "mismatch_ratio_max": 1.1,
    }


@pytest.mark.parametrize(
    ("dtype", "kl", "gap", "found"),
    [
        ("float32", 1e-13, 1e-7, False),
        ("float32", 1e-4, 1e-4, True),
        ("float32", 1e-13, 0.01, True),
        ("bfloat16", 1e-3, 0.02, False),  # what practice sees between two engines
        ("bfloat16", 0.02, 0.04, True),
        ("bfloat16", 1e-3, 0.06, True),
        ("bfloat16", NAN, NAN, False),
    ],
)
def test_the_bounds_follow_the_number_format(dtype: str, kl: float, gap: float, found: bool) -> None:
    finding = learned(posted("mismatch", Setting(dtype=dtype)), gaps(kl, gap))
    assert (finding is not None) is found


def test_the_worst_token_is_named_and_bounds_can_be_set() -> None:
    e = episode(0)
    update = Update(True, gaps(0.5, 0.3), (trained(2, e, logp=(-1.0, -1.0, -1.9)),))
    finding = complete(posted("mismatch").learned(0, [group(e)], update))
    assert "group 2 sample 0 token 2 (0.900 nats)" in finding.evidence
    assert posted("mismatch", kl=1.0, gap=1.0).learned(0, [group(e)], update) is None


# end_token


def test_completions_that_never_end_are_counted_over_steps() -> None:
    sentinel = posted("end_token", replace(MARKS, end_tokens={3: "<|eos|>"}), completions=24)
    groups = [group(episode(0, ids=(4, 91, 4)))]
    assert learned(sentinel, {"truncated": 1.0, "episodes": 16.0}, groups) is None
    finding = complete(learned(sentinel, {"truncated": 1.0, "episodes": 16.0}, groups))
    assert "the last 32" in finding.what
    assert "end tokens are <|eos|> (id 3)" in finding.evidence
    assert "1 completions of this step hold <|end|> (id 91) and go on" in finding.evidence


def test_one_completion_that_ends_starts_the_count_anew() -> None:
    sentinel = posted("end_token", completions=24)
    for share in (1.0, 0.99, 1.0):
        assert learned(sentinel, {"truncated": share, "episodes": 16.0}) is None
    assert learned(sentinel, {"truncated": 1.0, "episodes": 16.0}) is not None


def test_room_for_one_token_is_room_for_no_end() -> None:
    sentinel = posted("end_token", Setting(max_new_tokens=1), completions=1)
    assert learned(sentinel, {"truncated": 1.0, "episodes": 16.0}) is None
    assert sentinel.blind()


# constant_reward


def rewards(reward: float, std: float = 0.0, count: float = 16.0) -> dict[str, float]:
    return {"reward": reward, "reward_std": std, "episodes": count, "unscored": 0.0}


def test_equal_rewards_are_counted_over_steps() -> None:
    sentinel = posted("constant_reward", completions=32)
    groups = [group(episode(0))]
    assert learned(sentinel, rewards(0.0), groups) is None
    finding = complete(learned(sentinel, rewards(0.0), groups))
    assert "the last 32 completions all have the reward 0" in finding.what
    assert "'42'" in finding.evidence
    assert learned(sentinel, rewards(0.5, std=0.5), groups) is None
    assert learned(sentinel, rewards(0.0), groups) is None


def test_another_constant_is_a_difference() -> None:
    sentinel = posted("constant_reward", completions=32)
    assert learned(sentinel, rewards(0.0)) is None
    assert learned(sentinel, rewards(1.0)) is None
    assert learned(sentinel, rewards(1.0)) is not None


def test_a_step_without_scores_is_no_news() -> None:
    sentinel = posted("constant_reward", completions=32)
    assert learned(sentinel, rewards(0.0)) is None
    assert learned(sentinel, {"episodes": 16.0, "unscored": 16.0}) is None
    assert learned(sentinel, rewards(0.0)) is not None
    assert learned(sentinel, {"episodes": 16.0, "unscored": 16.0}) is None


# entropy


def state(entropy: float, reward: float = 0.1) -> dict[str, float]:
    return {"entropy": entropy, "reward": reward, "reward_std": 0.3, "episodes": 64.0, "unscored": 0.0}


def test_a_policy_sure_without_reason_has_collapsed() -> None:
    sentinel = posted("entropy")
    assert learned(sentinel, state(1.5)) is None
    finding = complete(learned(sentinel, state(0.01)))
    assert "collapsed" in finding.what
    assert "0.01 nats" in finding.what


def test_a_policy_sure_because_it_is_right_has_not() -> None:
    # three standard errors of 64 rewards with std 0.3 are 3 × 0.3 / 8 = 0.11
    sentinel = posted("entropy")
    for _ in range(3):
        learned(sentinel, state(1.5))
    assert learned(sentinel, state(0.01, reward=0.19)) is not None
    assert learned(sentinel, state(0.01, reward=0.22)) is None


def test_an_entropy_far_above_the_start_has_exploded() -> None:
    sentinel = posted("entropy")
    for entropy in (0.5, 0.6, 0.4, 1.4):
        assert learned(sentinel, state(entropy)) is None
    finding = complete(learned(sentinel, state(1.6)))  # 3 × the median of 0.5, 0.6, 0.4 is 1.5
    assert "1.6 nats a token, after 0.5 at the start" in finding.what


def test_a_small_entropy_may_triple() -> None:
    sentinel = posted("entropy")
    for entropy in (0.1, 0.1, 0.1, 0.4):
        assert learned(sentinel, state(entropy)) is None
    assert learned(sentinel, state(0.7)) is not None


def test_a_start_at_zero_or_at_nothing_is_a_start_too() -> None:
    sentinel = posted("entropy", floor=0.0)
    for entropy in (NAN, 0.0, 0.0, 0.0, 0.4):
        assert learned(sentinel, state(entropy)) is None
    assert "after 0 at the start" in complete(learned(sentinel, state(0.6))).what


def test_where_nothing_was_trained_the_sampled_log_probs_tell() -> None:
    sure = [group(episode(0, logp=-0.001), episode(1, logp=-0.001), excluded="zero variance")]
    metrics = {"reward": 0.0, "reward_std": 0.0, "episodes": 2.0, "unscored": 0.0}
    assert "collapsed" in complete(learned(posted("entropy"), metrics, sure)).what
    unsure = [group(episode(0), episode(1), excluded="zero variance")]
    assert learned(posted("entropy"), metrics, unsure) is None


# length


def lengths(mean: float, truncated: float, count: float = 64.0) -> dict[str, float]:
    return {"length_mean": mean, "truncated": truncated, "episodes": count}


def test_a_length_that_doubles_at_once_has_run_away_and_one_that_grows_has_not() -> None:
    sentinel = posted("length")
    mean = 10.0
    for _ in range(30):
        assert learned(sentinel, lengths(mean, 0.0)) is None
        mean *= 1.1  # 17 times in 30 steps
    finding = complete(learned(sentinel, lengths(3 * mean, 0.0)))
    assert "run away" in finding.what


def test_a_run_that_began_with_failed_answers_only_may_be_compared_with_them() -> None:
    sentinel = posted("length")
    for _ in range(3):
        learned(sentinel, lengths(0.0, 0.0))
    assert "0 in recent steps" in complete(learned(sentinel, lengths(10.0, 0.0))).what


def test_truncation_that_rises_is_found_however_slowly() -> None:
    sentinel = posted("length")
    found = [learned(sentinel, lengths(10.0, share / 100)) is not None for share in range(0, 50, 2)]
    assert found.index(True) == 17  # the start's median is 2 %; 34 % is the first share above 32 %
    assert all(found[17:])


def test_truncation_of_few_completions_is_allowed_its_noise() -> None:
    sentinel = posted("length")
    for _ in range(3):
        learned(sentinel, lengths(10.0, 0.25, count=4.0))
    assert learned(sentinel, lengths(10.0, 0.75, count=4.0)) is None  # 3 standard errors are 0.65
    assert learned(sentinel, lengths(10.0, 0.75, count=64.0)) is not None


@pytest.mark.parametrize("name", SENTINELS)
def test_a_step_that_taught_nothing_alarms_nobody(name: str) -> None:
    sentinel = posted(name)
    assert sentinel.sampled(0, ()) is None
    assert learned(sentinel, {}) is None
    assert sentinel.loaded(1, Weights(0, None)) is None
