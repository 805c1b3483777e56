"""Published algorithms, as literals of the same five choices.

Each comment gives the source and whatever is a convention because nothing was published. Equations,
neighbours and advice: docs/algorithms.md. Libraries' own defaults: `peers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from covey.algo.algorithm import Algorithm
from covey.algo.choice import Choice, did_you_mean
from covey.algo.peers import PEERS

_PAPERS = {
    # Covey's default: mean baseline, no std, exact token mean, clip-higher, no reference model.
    # What the latest recipes share (V3.2, Olmo 3, Dr. GRPO; DAPO's bounds); a judgement, not a paper.
    "modern": Algorithm(
        advantage=Choice("mean"),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.28}),
        aggregation=Choice("token_mean"),
    ),
    # DeepSeekMath 2402.03300 eq. 3-4. Conventions: the clip range, ddof and eps are not stated.
    "grpo": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("sequence_mean"),
        kl=Choice("k3", {"coefficient": 0.04}),
    ),
    # DeepSeek-R1 2501.12948. Conventions: R1-Zero's clip range is not stated (10 is R1's first
    # stage's); eq. 1 prints the sequence's ratio, implementations use the token's, as here.
    "r1-zero": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("clip", {"low": 10.0, "high": 10.0}),
        aggregation=Choice("sequence_mean"),
        kl=Choice("k3", {"coefficient": 0.001}),
    ),
    # DeepSeek-V3.2 2512.02556 eq. 5-9. Conventions: the clip range, δ (0.5) and β (R1-Zero's 0.001;
    # "weak or none" for maths) are not disclosed. Its Keep Sampling Mask comes with the rollout: [rollout]
    # top_k and top_p truncate, and the learner is then over the ids that were kept.
    "v3.2": Algorithm(
        advantage=Choice("mean"),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("sequence_mean"),
        kl=Choice("ratio_k3", {"coefficient": 0.001}),
        correction=(Choice("off_policy_mask", {"delta": 0.5}),),
    ),
    # Dr. GRPO 2503.20783: neither 1/std nor 1/L_i.
    "dr-grpo": Algorithm(
        advantage=Choice("mean"),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("constant_length"),
    ),
    # DAPO 2503.14476 eq. 8, as printed: the token mean is taken per prompt. Conventions: ddof, eps.
    "dapo": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.28}),
        aggregation=Choice("prompt_mean"),
    ),
    # GSPO 2507.18071 eq. 5-7. Conventions: ddof, eps.
    "gspo": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        ratio=Choice("sequence"),
        surrogate=Choice("clip", {"low": 3e-4, "high": 4e-4}),
        aggregation=Choice("sequence_mean"),
    ),
    # GSPO-token, 2507.18071 eq. 13-14.
    "gspo-token": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        ratio=Choice("sequence_token"),
        surrogate=Choice("clip", {"low": 3e-4, "high": 4e-4}),
        aggregation=Choice("sequence_mean"),
    ),
    # MiniMax-M1 2506.13585 eq. 4-5. Convention: the cap is not disclosed; 5 is ScaleRL's.
    "cispo": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("cispo", {"cap": 5.0}),
        aggregation=Choice("token_mean"),
    ),
    # ScaleRL 2510.13786. Conventions: ddof, eps.
    "scalerl": Algorithm(
        advantage=Choice("batch_advantage_std", {"ddof": 0, "eps": 1e-4}),
        surrogate=Choice("cispo", {"cap": 5.0}),
        aggregation=Choice("prompt_mean"),
    ),
    # RLOO 2402.14740.
    "rloo": Algorithm(
        advantage=Choice("leave_one_out"),
        ratio=Choice("none"),
        surrogate=Choice("reinforce"),
        aggregation=Choice("sequence_sum"),
        kl=Choice("k1", {"coefficient": 0.03}),
        kl_in="reward",
    ),
    # REINFORCE++ 2501.03262. The paper takes each token's *remaining* KL off its return; here the
    # sequence's whole KL is taken off: the same expected gradient, since the past is a constant.
    "reinforce++": Algorithm(
        advantage=Choice("whiten", {"eps": 1e-8}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("token_mean"),
        kl=Choice("k1", {"coefficient": 0.001}),
        kl_in="reward",
    ),
    # The same paper's form with a group baseline. Convention: the KL is `reinforce++`'s; libraries
    # disagree, and some add k2 to the loss in this form.
    "reinforce++-baseline": Algorithm(
        advantage=Choice("centre_whiten", {"over": "sequences", "eps": 1e-8}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("token_mean"),
        kl=Choice("k1", {"coefficient": 0.001}),
        kl_in="reward",
    ),
    # Olmo 3, as open-instruct e6c3044 (2026-08-20) runs it.
    "olmo3": Algorithm(
        advantage=Choice("mean"),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.272}),
        aggregation=Choice("token_mean"),
        correction=(Choice("token_truncate", {"cap": 2.0}),),
    ),
    # SAPO 2511.20347.
    "sapo": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("sapo", {"positive": 1.0, "negative": 1.05}),
        aggregation=Choice("sequence_mean"),
    ),
    # GMPO 2507.20673; the bounds are in log space.
    "gmpo": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("gmpo", {"low": 0.4, "high": 0.4}),
        aggregation=Choice("sequence_mean"),
    ),
    # LUSPO 2602.05261: GSPO's term times L_i.
    "luspo": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        ratio=Choice("sequence"),
        surrogate=Choice("clip", {"low": 2e-3, "high": 2.5e-3}),
        aggregation=Choice("sequence_sum"),
    ),
    # VESPO 2602.10693.
    "vespo": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        ratio=Choice("sequence_product"),
        surrogate=Choice(
            "vespo",
            {"k_positive": 2.0, "k_negative": 3.0, "lambda_positive": 3.0, "lambda_negative": 2.0},
        ),
        aggregation=Choice("token_mean"),
    ),
    # DPPO 2602.04879, total variation; μ is the sampler. Convention: the advantage's ddof and eps.
    "dppo": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        ratio=Choice("token", {"against": "sampler"}),
        surrogate=Choice("dppo_tv", {"threshold": 0.15}),
        aggregation=Choice("token_mean"),
    ),
    # INTELLECT-2 2505.07291: GRPO bounded on both sides. Conventions: ddof, eps, aggregation.
    "intellect-2": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2, "dual": 4.0}),
        aggregation=Choice("sequence_mean"),
    ),
    # Lite PPO 2508.08221: group mean, batch std of the raw rewards, token mean.
    "lite-ppo": Algorithm(
        advantage=Choice("batch_reward_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("token_mean"),
    ),
    # OPO 2505.23585; on-policy, so that no ratio is needed.
    "opo": Algorithm(
        advantage=Choice("opo"),
        ratio=Choice("none"),
        surrogate=Choice("reinforce"),
        aggregation=Choice("sequence_sum"),
    ),
    # GPG 2504.02546. Convention: the aggregation.
    "gpg": Algorithm(
        advantage=Choice("gpg"),
        ratio=Choice("none"),
        surrogate=Choice("reinforce"),
        aggregation=Choice("token_mean"),
    ),
    # MaxRL 2602.02710. Conventions: the surrogate and the aggregation around its advantage.
    "max-rl": Algorithm(
        advantage=Choice("max_rl", {"eps": 1e-6}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("token_mean"),
    ),
    # Clip-Cov 2505.22617. Conventions: covariance over the whole step, before its update.
    "clip-cov": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("token_mean"),
        selection=Choice("covariance_band", {"fraction": 2e-4, "low": 1.0, "high": 5.0}),
        correction=(Choice("drop_selected"),),
    ),
    # KL-Cov 2505.22617. Conventions as for Clip-Cov.
    "kl-cov": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("kl_cov", {"coefficient": 1.0}),
        aggregation=Choice("token_mean"),
        selection=Choice("top_covariance", {"fraction": 2e-4}),
    ),
    # "Beyond the 80/20 rule" 2506.01939 on DAPO. Convention: the fraction is of the whole step.
    "80-20": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.28}),
        aggregation=Choice("prompt_mean"),
        selection=Choice("top_entropy", {"fraction": 0.2}),
        correction=(Choice("only_selected"),),
    ),
    # Supervised fine-tuning: mean negative log-likelihood per token.
    "sft": Algorithm(
        advantage=Choice("none"),
        ratio=Choice("none"),
        surrogate=Choice("nll"),
        aggregation=Choice("token_mean"),
    ),
    # On-policy distillation from sampled tokens; the reference is the teacher. DeepSeek-V4
    # 2606.19348 uses the full vocabulary instead.
    "distill": Algorithm(
        advantage=Choice("none"),
        surrogate=Choice("reverse_kl"),
        aggregation=Choice("token_mean"),
    ),
}

PRESETS: Mapping[str, Algorithm] = {**_PAPERS, **PEERS}


def preset(name: str) -> Algorithm:
    """The algorithm of that name. Raises ValueError, with the name likeliest meant."""
    if name not in PRESETS:
        raise ValueError(f"unknown algorithm {name!r}{did_you_mean(name, PRESETS)}")
    return PRESETS[name]
