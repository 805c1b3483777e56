"""How many tokens go through the model at once, from a memory budget."""

from __future__ import annotations

from dataclasses import dataclass

from covey.models import Policy
from covey.models.logprobs import CHUNK_BYTES

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Footprint:
    """Estimated bytes.

    weights: fp32 masters, their gradients, Adam's two moments, and the bf16 copy; per_token:
    activations kept for the backward pass; logits: what the chunk under way takes for each of its
    tokens; head: the output head's gradient.
    """

    weights: int
    per_token: int
    logits: int
    head: int

    def activations(self, tokens: int) -> int:
        """A micro-batch's bytes at their peak, which is the backward pass through the head."""
        return self.per_token * tokens + min(self.logits * tokens, _COPIES * CHUNK_BYTES) + self.head

    def tokens(self, budget_bytes: float) -> int:
        """Packed tokens whose activations fit the budget; at least one sequence always runs."""
        left = int(budget_bytes) - self.head
        within_a_chunk = left // (self.per_token + self.logits)
        beyond = (left - _COPIES * CHUNK_BYTES) // self.per_token
        return max(1, within_a_chunk, beyond)


_COPIES = 4
"""A chunk's logits stand in memory so often: themselves, shaped, log-softmax, gradient."""


def footprint(policy: Policy, *, longest: int) -> Footprint:
    """Estimate from the model's shape; ``longest`` is a whole sequence's length in tokens.

    A layer keeps about 12 copies of its input and 4 of its widened state, 3 more of its input in fp32
    (the norms), and its attention weights, in fp32 and again in the dtype of computation where that
    is another. `tests/learn` holds the estimate against the bytes that autograd really saves.
    """
    config = policy.module.config.get_text_config()
    item = policy.dtype.itemsize
    width = config.hidden_size
    wide = getattr(config, "intermediate_size", None) or 4 * width
    scores = config.num_attention_heads * longest * (4 if item == 4 else 4 + item)
    per_token = config.num_hidden_layers * ((12 * width + 4 * wide) * item + 3 * width * 4 + scores)
    count = sum(m.numel() for m in policy.master.values())
    copies = 16 if item == 4 else 16 + item
    return Footprint(
        weights=count * copies,
        per_token=per_token,
        logits=_COPIES * 4 * policy.vocabulary,
        head=4 * policy.head.weight.numel(),
    )
