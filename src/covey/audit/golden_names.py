"""The names that golden vectors give to advantages, losses and corrections, as Covey's choices.

A name is a pattern with its numbers in it (``gspo_3e-4_4e-4``), so a file with other numbers is
read as well. A name that fits no pattern gives None.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from covey.algo import Algorithm, Choice

_NUMBER = r"(\d+(?:\.\d+)?(?:e[-_]?\d+)?)"
"""``0.2``, ``3e-4``, or ``1e_4`` where a minus sign had no place."""

Patterns: TypeAlias = list[tuple[str, Callable[..., Any]]]


def advantage_choice(name: str) -> Choice | None:
    """The advantage of that name."""
    return _match(name, _ADVANTAGES)


def loss_algorithm(name: str) -> Algorithm | None:
    """The algorithm whose loss has that name."""
    return _match(name, _LOSSES)


def correction_choice(name: str) -> Choice | None:
    """The correction for the sampler's mismatch of that name."""
    return _match(name, _CORRECTIONS)


def _match(name: str, patterns: Patterns) -> Any:
    for pattern, build in patterns:
        found = re.fullmatch(pattern.replace("#", _NUMBER), name)
        if found:
            return build(*(float(text.replace("e_", "e-")) for text in found.groups()))
    return None


GROUP_STD = Choice("mean_std", {"ddof": 1, "eps": 1e-4})
"""The advantage of every loss whose name names none."""

_ADVANTAGES: Patterns = [
    (r"grpo_ddof#_eps#(?:_\w+)?", lambda d, e: Choice("mean_std", {"ddof": int(d), "eps": e})),
    (r"dr_grpo_v32_mean_only", lambda: Choice("mean")),
    (r"rloo", lambda: Choice("leave_one_out")),
    (r"loo_mean_loo_std_eps#(?:_\w+)?", lambda e: Choice("leave_one_out_std", {"eps": e})),
    (r"lite_ppo_batch_reward_std_eps#", lambda e: Choice("batch_reward_std", {"eps": e})),
    (
        r"scalerl_batch_adv_std_ddof#_eps#",
        lambda d, e: Choice("batch_advantage_std", {"ddof": int(d), "eps": e}),
    ),
    (r"maxrl_mean_eps#", lambda e: Choice("max_rl", {"eps": e})),
    (r"opo_length_weighted", lambda: Choice("opo")),
    (r"gpg", lambda: Choice("gpg")),
    (r"reinforce_pp_seq_whiten_ddof#", lambda d: Choice("whiten", {"ddof": int(d)})),
    (r"reinforce_pp_baseline_seq_ddof#", lambda d: Choice("centre_whiten", {"ddof": int(d)})),
    (r"reinforce_pp_baseline_token_whiten_verl", lambda: Choice("centre_whiten", {"over": "tokens"})),
]


def _clipped(low: float, high: float, aggregation: str, **choices: Any) -> Algorithm:
    """A clipped surrogate; ``dual`` is its own bound, the rest are an algorithm's choices."""
    params = {"low": low, "high": high}
    if "dual" in choices:
        params["dual"] = choices.pop("dual")
    choices.setdefault("advantage", GROUP_STD)
    return Algorithm(surrogate=Choice("clip", params), aggregation=Choice(aggregation), **choices)


PLAIN = _clipped(0.2, 0.2, "sequence_mean")
"""The loss that a file's corrections are applied to."""


def _with_kl(low: float, beta: float, estimator: str) -> Algorithm:
    kl = Choice(estimator, {"coefficient": beta}) if beta else None
    return _clipped(low, low, "sequence_mean", kl=kl)


def _weighted(
    surrogate: str, params: dict[str, Any], aggregation: str, advantage: Choice = GROUP_STD
) -> Algorithm:
    return Algorithm(
        advantage=advantage, surrogate=Choice(surrogate, params), aggregation=Choice(aggregation)
    )


_LOSSES: Patterns = [
    (r"grpo_eps#_beta#(?:_k3)?", lambda e, b: _with_kl(e, b, "k3")),
    (r"grpo_eps#_beta#_k3_unbiased_v32", lambda e, b: _with_kl(e, b, "ratio_k3")),
    (r"grpo_eps#_beta#_k1", lambda e, b: _with_kl(e, b, "k1")),
    (r"grpo_eps#_beta#_k2", lambda e, b: _with_kl(e, b, "k2")),
    (r"grpo_r1_eps#_beta#", lambda e, b: _with_kl(e, b, "k3")),
    (r"dr_grpo_eps#", lambda e: _clipped(e, e, "constant_length", advantage=Choice("mean"))),
    (r"dapo_#_#_token_mean_batch", lambda low, high: _clipped(low, high, "token_mean")),
    (r"dapo_#_#_prompt_mean_paper_eq8", lambda low, high: _clipped(low, high, "prompt_mean")),
    (r"grpo_two_sided_delta#_intellect2", lambda d: _clipped(0.2, 0.2, "sequence_mean", dual=d)),
    (r"ppo_dual_clip_c#_verl_token_mean", lambda c: _clipped(0.2, 0.28, "token_mean", dual=c)),
    (r"cispo_cap#_token_mean", lambda cap: _weighted("cispo", {"cap": cap}, "token_mean")),
    (
        r"scalerl_cispo_cap#_prompt_mean",
        lambda cap: _weighted(
            "cispo",
            {"cap": cap},
            "prompt_mean",
            Choice("batch_advantage_std", {"ddof": 0, "eps": 1e-4}),
        ),
    ),
    (r"sapo_#_#", lambda p, n: _weighted("sapo", {"positive": p, "negative": n}, "sequence_mean")),
    (
        r"rloo_reinforce_seq_mean_token_sum",
        lambda: _weighted("reinforce", {}, "sequence_sum", Choice("leave_one_out")),
    ),
    (r"dppo_binary_tv_#_token_mean", lambda t: _weighted("dppo_tv", {"threshold": t}, "token_mean")),
    (r"dppo_binary_kl_#_token_mean", lambda t: _weighted("dppo_kl", {"threshold": t}, "token_mean")),
    (r"gspo_#_#", lambda low, high: _clipped(low, high, "sequence_mean", ratio=Choice("sequence"))),
    (
        r"gspo_token_#_#",
        lambda low, high: _clipped(low, high, "sequence_mean", ratio=Choice("sequence_token")),
    ),
    (r"luspo_#_#", lambda low, high: _clipped(low, high, "sequence_sum", ratio=Choice("sequence"))),
    (r"gmpo_#", lambda bound: _weighted("gmpo", {"low": bound, "high": bound}, "sequence_mean")),
    (
        r"grpo_opsm_delta#_v32",
        lambda d: _clipped(
            0.2,
            0.2,
            "sequence_mean",
            correction=(Choice("off_policy_mask", {"delta": d, "against": "learner"}),),
        ),
    ),
]

_CORRECTIONS: Patterns = [
    (r"token_tis_cap#", lambda cap: Choice("token_truncate", {"cap": cap})),
    (r"token_icepop_#_#", lambda low, high: Choice("token_mask", {"low": low, "high": high})),
    (r"seq_tis_cap#", lambda cap: Choice("sequence_truncate", {"cap": cap})),
    (r"seq_mis_cap#(?:_\w+)?", lambda cap: Choice("sequence_mask", {"high": cap})),
    (r"geo_mask_#_#", lambda low, high: Choice("geometric_mask", {"low": low, "high": high})),
]

AGGREGATIONS = {
    "seq_mean_token_mean": ("sequence_mean",),
    "token_mean": ("token_mean",),
    "prompt_mean_token_mean": ("prompt_mean",),
    "token_sum_const": ("constant_length",),
    "seq_mean_token_sum": ("sequence_sum",),
    "sequence": ("sequence_mean", "sequence_sum"),
}
"""The files' words for aggregations, and Covey's that they cover."""
