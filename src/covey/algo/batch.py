"""What a loss is computed from, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from covey.algo import segments

PerToken: TypeAlias = Float[Tensor, " tokens"]
"""One number per chosen token, sequences laid end to end without padding."""

PerSequence: TypeAlias = Float[Tensor, " sequences"]
"""One number per sequence of a whole optimizer step."""

TokenIndex: TypeAlias = Int[Tensor, " tokens"]
SequenceIndex: TypeAlias = Int[Tensor, " sequences"]


@dataclass(frozen=True)
class TokenBatch:
    """The chosen tokens of a micro-batch; every sequence in it is whole.

    ``logp`` and ``entropy`` (the policy's at each token, in nats) carry gradient, the rest does not.
    ``old_logp`` None means that the policy has not moved since the rollout, so that its value is
    ``logp``'s own. ``sequence`` counts the sequences of the micro-batch from 0. ``selected`` is 1 for
    the tokens that the algorithm's selection singled out and 0 for the rest.

    Functions read the other log-probs through `anchor` and ``selected`` through `marked`: that is
    also how an algorithm knows which of them it needs.
    """

    logp: PerToken
    old_logp: PerToken | None
    sampler_logp: PerToken | None
    ref_logp: PerToken | None
    advantage: PerToken
    sequence: TokenIndex
    selected: PerToken | None = None
    entropy: PerToken | None = None

    def anchor(self, whose: str) -> PerToken:
        """The ``learner``'s, ``sampler``'s or ``reference``'s log-probs.

        Raises ValueError when the batch does not hold them.
        """
        if whose == "learner":
            return self.logp.detach() if self.old_logp is None else self.old_logp
        found = {"sampler": self.sampler_logp, "reference": self.ref_logp}[whose]
        if found is None:
            raise ValueError(f"the algorithm reads the {whose}'s log-probs, but the batch has none")
        return found

    def marked(self) -> PerToken:
        """``selected``. Raises ValueError when nothing was selected."""
        if self.selected is None:
            raise ValueError("the algorithm reads selected tokens, but the batch has no selection")
        return self.selected

    def sequence_sum(self, values: PerToken) -> PerToken:
        """Each token's sequence total."""
        return segments.total(values, self.sequence, segments.size_of(self.sequence))[self.sequence]

    def sequence_mean(self, values: PerToken) -> PerToken:
        """Each token's sequence mean."""
        return segments.spread(values, self.sequence)


@dataclass(frozen=True)
class TokenLoss:
    """``loss`` is to be minimised after weighting. ``metrics`` are detached, one value per token,
    so that micro-batches are combined exactly by laying them end to end."""

    loss: PerToken
    metrics: Mapping[str, PerToken] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """The shape of a whole optimizer step, which is what weights are a function of.

    ``lengths`` counts each sequence's chosen tokens, ``group`` (0..P-1) its prompt, ``max_length``
    is the longest completion that sampling allows, and ``micro_batch`` (0..M-1) says where the
    learner puts each sequence, for the one aggregation that depends on it.
    """

    lengths: SequenceIndex
    group: SequenceIndex
    max_length: int
    micro_batch: SequenceIndex | None = None


@dataclass(frozen=True)
class StepTokens:
    """All chosen tokens of an optimizer step before its update, which is what a selection reads.

    ``entropy`` is the policy's at each token, in nats; ``draw`` a uniform number in [0, 1) that is
    the token's own, whatever the batch order.
    """

    logp: PerToken
    advantage: PerToken
    entropy: PerToken | None = None
    draw: PerToken | None = None
