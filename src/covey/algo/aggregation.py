"""Aggregation as a weight per token, fixed once for the whole optimizer step.

Each function returns the weight (float64) that every token of a sequence carries; the step's loss
is Σ weight · token loss. Because nothing else divides, the gradient can't depend on how the step is
split into micro-batches or ranks. B sequences, P prompts, L_i tokens in sequence i.
"""

from __future__ import annotations

import torch

from covey.algo import segments
from covey.algo.batch import PerSequence, SequenceIndex, Step


def sequence_mean(step: Step) -> PerSequence:
    """1/B Σ_i 1/L_i Σ_t (DeepSeekMath 2402.03300 eq. 3): every sequence counts alike."""
    return _ones(step) / step.lengths.clamp(min=1) / len(step.lengths)


def token_mean(step: Step) -> PerSequence:
    """Σ_i Σ_t / Σ_i L_i: every token of the step counts alike."""
    return _ones(step) / step.lengths.sum().clamp(min=1)


def prompt_mean(step: Step) -> PerSequence:
    """1/P Σ_p [Σ_{i∈p} Σ_t / Σ_{i∈p} L_i] (DAPO 2503.14476 eq. 8 as printed; ScaleRL)."""
    return _mean_of_token_means(step, step.group)


def constant_length(step: Step, *, length: int | None = None) -> PerSequence:
    """1/B Σ_i 1/L_const Σ_t (Dr. GRPO 2503.20783); L_const is the step's ``max_length`` unless given."""
    return _ones(step) / (len(step.lengths) * (step.max_length if length is None else length))


def sequence_sum(step: Step) -> PerSequence:
    """1/B Σ_i Σ_t (RLOO 2402.14740; LUSPO 2602.05261; R1 eq. 1 as printed)."""
    return _ones(step) / len(step.lengths)


def token_sum(step: Step) -> PerSequence:
    """Σ_i Σ_t: nothing divides, so the learning rate must know the batch."""
    return _ones(step)


def local_token_mean(step: Step) -> PerSequence:
    """1/M Σ_m [Σ_{i∈m} Σ_t / Σ_{i∈m} L_i] over micro-batches m.

    Kept to reproduce libraries that do this (TRL's ``bnpo``): the gradient *does* depend on how the
    step is split. Raises ValueError when the step doesn't say how it is.
    """
    if step.micro_batch is None:
        raise ValueError("local_token_mean depends on the split: say each sequence's micro_batch")
    return _mean_of_token_means(step, step.micro_batch)


def _ones(step: Step) -> PerSequence:
    return torch.ones_like(step.lengths, dtype=torch.float64)


def _mean_of_token_means(step: Step, part: SequenceIndex) -> PerSequence:
    parts = segments.size_of(part)
    tokens = segments.total(step.lengths.double(), part, parts)
    return 1 / tokens.clamp(min=1)[part] / parts


AGGREGATIONS = {
    "sequence_mean": sequence_mean,
    "token_mean": token_mean,
    "prompt_mean": prompt_mean,
    "constant_length": constant_length,
    "sequence_sum": sequence_sum,
    "token_sum": token_sum,
    "local_token_mean": local_token_mean,
}
