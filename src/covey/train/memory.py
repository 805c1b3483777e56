"""How many tokens go through the model at once, from a memory budget."""

from __future__ import annotations

from dataclasses import dataclass

from covey.models import Policy
from covey.models.logprobs import CHUNK_BYTES

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Footprint:
    """Estimated bytes: ``weights`` (fp32 masters, their gradients, Adam's two moments, and the
    bf16 copy), ``per_token`` (activations kept for the backward pass), ``head`` (a chunk of logits)."""

    weights: int
    per_token: int
    head: int

    def tokens(self, budget_bytes: float) -> int:
        """Packed tokens whose activations fit the budget; at least one sequence always runs."""
        return max(1, int((budget_bytes - self.head) / self.per_token))


def footprint(policy: Policy, *, longest: int) -> Footprint:
    """Estimate from the model's shape; ``longest`` is a whole sequence's length in tokens.

    A layer keeps about 16 copies of its input, 5 of its widened state and its attention scores
    twice; `tests/train` holds the estimate against the bytes that autograd really saves.
    """
    config = policy.module.config.get_text_config()
    item = policy.dtype.itemsize
    width = config.hidden_size
    wide = getattr(config, "intermediate_size", None) or 4 * width
    scores = config.num_attention_heads * longest * (4 + 2 * item)
    per_token = config.num_hidden_layers * ((16 * width + 5 * wide) * item + 3 * width * 4 + scores)
    count = sum(m.numel() for m in policy.master.values())
    copies = 16 if item == 4 else 16 + item
    head = 4 * min(CHUNK_BYTES, 4 * policy.vocabulary * longest) + 4 * policy.head.weight.numel()
    return Footprint(count * copies, per_token, head)
