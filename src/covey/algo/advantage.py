"""Advantages: what multiplies a sequence's tokens.

``rewards``, ``group`` (0..P-1) and ``lengths`` have one entry per sequence of the whole optimizer
step; B sequences, G of them in a group, r̄ a group's mean. Every function keeps the rewards' dtype,
and gives exactly 0 where the rewards it compares are all equal, rounding or not.
"""

from __future__ import annotations

from typing import Literal

import torch

from covey.algo import segments
from covey.algo.batch import PerSequence, SequenceIndex


def _centred(rewards: PerSequence, group: SequenceIndex) -> PerSequence:
    """r_i - r̄, exactly 0 in a group of equal rewards."""
    return torch.where(
        segments.constant(rewards, group)[group], 0.0, rewards - segments.spread(rewards, group)
    )


def mean(rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex) -> PerSequence:
    """Â_i = r_i - r̄ (Dr. GRPO 2503.20783; DeepSeek-V3.2 2512.02556 section 3.1)."""
    return _centred(rewards, group)


def mean_std(
    rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex, *, ddof: int = 1, eps: float = 1e-4
) -> PerSequence:
    """Â_i = (r_i - r̄) / (std(r) + eps) (DeepSeekMath 2402.03300, 4.1.2).

    The paper states neither ``ddof`` (0 divides by G, 1 by G-1) nor ``eps``: both are conventions.
    """
    centred = _centred(rewards, group)
    size = segments.size_of(group)
    free = (segments.count(rewards, group, size) - ddof).clamp(min=1)
    deviation = (segments.total(centred.square(), group, size) / free).sqrt()[group]
    return _over(centred, deviation + eps)


def batch_reward_std(
    rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex, *, ddof: int = 1, eps: float = 1e-4
) -> PerSequence:
    """Â_i = (r_i - r̄) / (std of the batch's raw rewards + eps) (Lite PPO 2508.08221)."""
    return _over(_centred(rewards, group), _deviation(rewards, ddof) + eps)


def batch_advantage_std(
    rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex, *, ddof: int = 0, eps: float = 1e-4
) -> PerSequence:
    """Â_i = (r_i - r̄) / (std of the batch's centred rewards + eps) (ScaleRL 2510.13786)."""
    centred = _centred(rewards, group)
    return _over(centred, _deviation(centred, ddof) + eps)


def leave_one_out(rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex) -> PerSequence:
    """Â_i = r_i - mean of the group's others = G/(G-1) (r_i - r̄) (RLOO 2402.14740); 0 if G = 1."""
    size = segments.count(rewards, group, segments.size_of(group))[group]
    return _centred(rewards, group) * size / (size - 1).clamp(min=1)


def leave_one_out_std(
    rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex, *, eps: float = 1e-6
) -> PerSequence:
    """Leave-one-out over the others' own std (ddof 1) + eps; unscaled where the others are all equal
    (NeMo-RL's default). Does not sum to zero over a group."""
    plain = leave_one_out(rewards, group, lengths)
    scaled = plain.clone()
    for g in range(segments.size_of(group)):
        (rows,) = torch.nonzero(group == g, as_tuple=True)
        if len(rows) < 3:  # one other has no deviation
            continue
        off_diagonal = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        others = rewards[rows].expand(len(rows), -1)[off_diagonal].view(len(rows), -1)
        varied = others.amax(1) > others.amin(1)
        scaled[rows] = torch.where(varied, plain[rows] / (others.std(1) + eps), plain[rows])
    return scaled


def whiten(
    rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex, *, ddof: int = 0, eps: float = 1e-8
) -> PerSequence:
    """Â_i = (r_i - mean of the batch) / (std of the batch + eps): groups play no part
    (REINFORCE++ 2501.03262)."""
    return _over(_centred(rewards, torch.zeros_like(group)), _deviation(rewards, ddof) + eps)


def centre_whiten(
    rewards: PerSequence,
    group: SequenceIndex,
    lengths: SequenceIndex,
    *,
    over: Literal["sequences", "tokens"] = "sequences",
    ddof: int = 0,
    eps: float = 1e-8,
) -> PerSequence:
    """r_i - r̄, then whitened over the batch (REINFORCE++-baseline, 2501.03262).

    Over ``sequences``: with ``ddof``, eps added to the std. Over ``tokens`` (verl): every sequence counts
    as often as it has tokens, ddof 1, eps added to the variance.
    """
    centred = _centred(rewards, group)
    if over == "sequences":
        return _over(centred, _deviation(centred, ddof) + eps)
    weight = lengths.to(rewards.dtype)
    tokens = weight.sum()
    shifted = centred - (weight * centred).sum() / tokens.clamp(min=1)
    variance = (weight * shifted.square()).sum() / (tokens - 1).clamp(min=1)
    return shifted * (variance + eps).rsqrt()


def opo(rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex) -> PerSequence:
    """Â_i = r_i - Σ_j L_j r_j / Σ_j L_j: the length-weighted optimal baseline (OPO 2505.23585)."""
    weight, size = lengths.to(rewards.dtype), segments.size_of(group)
    tokens = segments.total(weight, group, size).clamp(min=1)
    baseline = (segments.total(weight * rewards, group, size) / tokens)[group]
    return torch.where(segments.constant(rewards, group)[group], 0.0, rewards - baseline)


def gpg(rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex) -> PerSequence:
    """Â_i = α (r_i - r̄) with α = B / #{r_i ≠ 0} (GPG 2504.02546, as its public code counts)."""
    return _centred(rewards, group) * len(rewards) / (rewards != 0).sum().clamp(min=1)


def max_rl(
    rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex, *, eps: float = 1e-6
) -> PerSequence:
    """Â_i = (r_i - r̄) / (r̄ + eps), 0 where r̄ = 0 (MaxRL 2602.02710); meant for rewards 0 and 1."""
    baseline = segments.spread(rewards, group)
    return torch.where(baseline == 0, 0.0, _centred(rewards, group) / (baseline + eps))


def none(rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex) -> PerSequence:
    """Â_i = 1: for losses that learn from the tokens alone (SFT, distillation)."""
    return torch.ones_like(rewards)


def _over(centred: PerSequence, scale: torch.Tensor) -> PerSequence:
    """The quotient, where 0/0 is 0: eps may be 0, and what is centred to 0 has no signal to scale."""
    return torch.where(centred == 0, 0.0, centred / scale)


def _deviation(values: PerSequence, ddof: int) -> torch.Tensor:
    return (values - values.mean()).square().sum().div(max(len(values) - ddof, 1)).sqrt()


ADVANTAGES = {
    "mean": mean,
    "mean_std": mean_std,
    "batch_reward_std": batch_reward_std,
    "batch_advantage_std": batch_advantage_std,
    "leave_one_out": leave_one_out,
    "leave_one_out_std": leave_one_out_std,
    "whiten": whiten,
    "centre_whiten": centre_whiten,
    "opo": opo,
    "gpg": gpg,
    "max_rl": max_rl,
    "none": none,
}
