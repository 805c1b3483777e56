"""What a learner asks of an algorithm: advantages, weights, and the loss of each token.

    loss of the step = Σ over all its tokens of  weight[sequence] · token_loss

Nothing else reduces, so micro-batches, packing and ranks can be chosen freely.
"""

from __future__ import annotations

import torch

from covey.algo import diagnostics, segments
from covey.algo.algorithm import Algorithm
from covey.algo.batch import PerSequence, PerToken, SequenceIndex, Step, StepTokens, TokenBatch, TokenLoss


def advantages(
    algorithm: Algorithm, rewards: PerSequence, group: SequenceIndex, lengths: SequenceIndex
) -> PerSequence:
    """Â of every sequence of the whole optimizer step, in the rewards' dtype.

    ``group`` numbers each sequence's prompt (in any numbering), ``lengths`` counts its chosen
    tokens. Raises ValueError for a reward that is not finite: what could not be scored must be left
    out, since it is not a 0.
    """
    if not bool(rewards.isfinite().all()):
        bad = int((~rewards.isfinite()).nonzero()[0])
        raise ValueError(f"the reward of sequence {bad} is {rewards[bad].item()}; leave out what has none")
    return algorithm.functions.advantage(rewards, _numbered(group), lengths)


def token_weights(
    algorithm: Algorithm,
    lengths: SequenceIndex,
    group: SequenceIndex,
    *,
    max_length: int,
    micro_batch: SequenceIndex | None = None,
) -> PerSequence:
    """The weight (float64) that each token of a sequence carries, over the whole optimizer step.

    ``max_length`` is the longest completion that sampling allows, in tokens; ``micro_batch`` is read
    by ``local_token_mean`` alone.
    """
    return algorithm.functions.aggregation(Step(lengths, _numbered(group), max_length, micro_batch))


def select_tokens(algorithm: Algorithm, tokens: StepTokens) -> PerToken | None:
    """Which tokens of the whole step are singled out, for `TokenBatch.selected`; None when the
    algorithm selects none."""
    selection = algorithm.functions.selection
    return None if selection is None else selection(tokens)


def token_loss(algorithm: Algorithm, batch: TokenBatch) -> TokenLoss:
    """The loss of each chosen token of a micro-batch, to be weighted and summed, and what
    `diagnostics.summary` needs.

        token_loss = Π corrections · surrogate(log ratio, Â) + β KL - c H
    """
    functions = algorithm.functions
    log_ratio = functions.ratio(batch)
    term = functions.surrogate(batch, log_ratio)
    loss, metrics = term.loss, {**diagnostics.observe(batch, log_ratio), **term.metrics}
    if functions.correction:
        weight = torch.ones_like(loss)
        for correction in functions.correction:
            weight = weight * correction(batch)
        # A weight of 0 means no influence, also where the term itself is not a number.
        loss = torch.where(weight == 0, 0.0, loss) * weight
        metrics["correction"] = weight
    if functions.kl is not None and algorithm.kl_in == "loss":
        loss = loss + functions.kl(batch)
    if functions.entropy is not None:
        loss = loss - functions.entropy(batch)
    return TokenLoss(loss, metrics)


def reward_penalty(algorithm: Algorithm, batch: TokenBatch) -> PerSequence:
    """β KL summed over each sequence of the batch, to be taken off its reward *before* advantages
    are taken; zeros unless the algorithm puts its KL in the reward. Without gradient."""
    size = segments.size_of(batch.sequence)
    if algorithm.functions.kl is None or algorithm.kl_in != "reward":
        return batch.logp.new_zeros(size)
    return segments.total(algorithm.functions.kl(batch).detach(), batch.sequence, size)


def _numbered(group: SequenceIndex) -> SequenceIndex:
    """The same groups counted 0..P-1, since a step may have left some out."""
    return torch.unique(group, return_inverse=True)[1]
