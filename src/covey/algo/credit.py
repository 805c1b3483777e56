"""Advantages from more than one reward per sequence: several objectives, or a reward per step."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from covey.algo import segments
from covey.algo.advantage import mean_std, whiten
from covey.algo.batch import PerSequence, PerToken, SequenceIndex


def gdpo(
    rewards: Float[Tensor, "sequences objectives"],
    group: SequenceIndex,
    lengths: SequenceIndex,
    weights: Float[Tensor, " objectives"],
    *,
    ddof: int = 1,
    eps: float = 1e-4,
) -> PerSequence:
    """Normalise each objective within its group, sum with weights, normalise over the batch
    (GDPO 2601.05242): no objective is drowned by another's larger spread."""
    each = [mean_std(column, group, lengths, ddof=ddof, eps=eps) for column in rewards.unbind(1)]
    return whiten(torch.stack(each, 1) @ weights, group, lengths, ddof=ddof, eps=eps)


def sum_then_normalise(
    rewards: Float[Tensor, "sequences objectives"],
    group: SequenceIndex,
    lengths: SequenceIndex,
    weights: Float[Tensor, " objectives"],
    *,
    ddof: int = 1,
    eps: float = 1e-4,
) -> PerSequence:
    """One weighted reward, then `mean_std`: GDPO's neighbour, what most libraries do."""
    return mean_std(rewards @ weights, group, lengths, ddof=ddof, eps=eps)


def process_supervision(
    step_rewards: Float[Tensor, " steps"],
    step_end: Int[Tensor, " steps"],
    step_sequence: Int[Tensor, " steps"],
    group: SequenceIndex,
    lengths: SequenceIndex,
    *,
    ddof: int = 1,
    eps: float = 0.0,
) -> PerToken:
    """Â_{i,t} = Σ normalised rewards of the steps of i that end at or after t (2402.03300, 4.1.3).

    ``step_end`` is the 0-based position, among its sequence's chosen tokens, of a step's last
    token. All step rewards of a group share one mean and std. Returns one value per token of all
    sequences, laid end to end.
    """
    step_group = group[step_sequence]
    normalised = mean_std(step_rewards, step_group, torch.ones_like(step_end), ddof=ddof, eps=eps)
    start = lengths.cumsum(0) - lengths
    sequence = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    at_end = normalised.new_zeros(len(sequence), dtype=torch.float64)
    at_end = at_end.index_add(0, start[step_sequence] + step_end, normalised.double())
    passed = at_end.cumsum(0) - at_end
    before = torch.where(lengths > 0, passed[start.clamp(max=max(len(passed) - 1, 0))], 0.0)
    whole = segments.total(at_end, sequence, len(lengths))
    return (whole[sequence] - (passed - before[sequence])).to(step_rewards.dtype)
