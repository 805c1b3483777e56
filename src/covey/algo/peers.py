"""What other libraries call GRPO: the defaults of each, as literals of the same five choices.

Read in the public source at the version named; what a library does beyond the loss (its optimizer,
its handling of truncated samples) is not part of these. docs/algorithms.md lists where a library
differs from its own paper.
"""

from __future__ import annotations

import math

from covey.algo.algorithm import Algorithm
from covey.algo.choice import Choice

PEERS = {
    # trl 1.16.0 GRPOConfig: loss_type "dapo", scale_rewards "group", beta 0; with vLLM the sequence
    # mask is on at 3. Its token count is the generation batch's, rescaled: equal to the exact token
    # mean when one rollout is one optimizer step.
    "trl-1.16": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("token_mean"),
        correction=(Choice("sequence_mask", {"low": 0.0, "high": 3.0}),),
    ),
    # Unsloth over TRL: loss_type "bnpo", beta 0.001, no correction for the sampler.
    "unsloth": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("local_token_mean"),
        kl=Choice("k3", {"coefficient": 0.001}),
    ),
    # verl 0.9.1: adv_estimator grpo, token-mean, dual clip on, KL off.
    "verl-0.9": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-6}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2, "dual": 3.0}),
        aggregation=Choice("token_mean"),
    ),
    # NVIDIA-NeMo/RL 7ea279a (2026-08-22) grpo_math_1B.yaml: leave-one-out mean and std.
    "nemo-rl": Algorithm(
        advantage=Choice("leave_one_out_std", {"eps": 1e-6}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("token_mean"),
        kl=Choice("k3", {"coefficient": 0.01}),
    ),
    # PrimeIntellect-ai/prime-rl 559b447 (2026-08-21): against the sampler, no reference; its
    # 1e-3·(log ratio)² is k2 with twice the coefficient.
    "prime-rl": Algorithm(
        advantage=Choice("mean"),
        ratio=Choice("token", {"against": "sampler"}),
        surrogate=Choice("dppo_tv", {"threshold": 0.2}),
        aggregation=Choice("token_mean"),
        kl=Choice("k2", {"coefficient": 2e-3, "against": "sampler"}),
    ),
    # openrlhf 0.11.2, advantage_estimator "group_norm"; its KL coefficient starts at 0.01.
    # Convention: the sequence's whole KL comes off its reward, before that is normalised.
    "openrlhf-0.11": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-9}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("token_mean"),
        kl=Choice("k1", {"coefficient": 0.01}),
        kl_in="reward",
    ),
    # NovaSky-AI/SkyRL a956457 (2026-08-21). Convention: eps.
    "skyrl": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-6}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("token_mean"),
        kl=Choice("k3", {"coefficient": 0.001}),
    ),
    # THUDM/slime 624b824 (2026-08-21): a mean per sample. Convention: eps.
    "slime": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-6}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("sequence_mean"),
    ),
    # google tunix c7d8950 (2026-08-21). Conventions: ddof, eps.
    "tunix": Algorithm(
        advantage=Choice("mean_std", {"ddof": 1, "eps": 1e-4}),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.2}),
        aggregation=Choice("sequence_mean"),
        kl=Choice("k3", {"coefficient": 0.04}),
    ),
    # thinking-machines-lab/tinker-cookbook 9dfcc3a (2026-08-19): an importance-weighted policy
    # gradient against the sampler, summed over tokens.
    "tinker-cookbook": Algorithm(
        advantage=Choice("mean"),
        ratio=Choice("token", {"against": "sampler"}),
        surrogate=Choice("clip", {"low": math.inf, "high": math.inf}),
        aggregation=Choice("token_sum"),
    ),
    # karpathy/nanochat 92d63d4 (2026-07-03): on-policy REINFORCE.
    "nanochat": Algorithm(
        advantage=Choice("mean"),
        ratio=Choice("none"),
        surrogate=Choice("reinforce"),
        aggregation=Choice("token_mean"),
    ),
}
