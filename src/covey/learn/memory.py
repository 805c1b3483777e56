"""How many tokens go through the model at once, from a memory budget."""

from __future__ import annotations

from dataclasses import dataclass, replace

from covey import kernels
from covey.models import Policy
from covey.models.dense import covered
from covey.models.fused import LONGEST
from covey.models.kept import KEPT_BYTES
from covey.models.logprobs import CHUNK_BYTES, FUSED_CHUNK_BYTES

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Footprint:
    """Estimated bytes.

    weights: fp32 masters, their gradients, Adam's two moments, and the bf16 copy; per_token:
    activations kept for the backward pass; logits: what the chunk under way takes for each of its
    tokens, up to ``chunk``; head: the output head's gradient.
    """

    weights: int
    per_token: int
    logits: int
    head: int
    chunk: int

    def activations(self, tokens: int) -> int:
        """A micro-batch's bytes at their peak, which is the backward pass through the head."""
        return self.per_token * tokens + min(self.logits * tokens, self.chunk) + self.head

    def tokens(self, budget_bytes: float) -> int:
        """Packed tokens whose activations fit the budget; at least one sequence always runs."""
        left = int(budget_bytes) - self.head
        within_a_chunk = left // (self.per_token + self.logits)
        beyond = (left - self.chunk) // self.per_token
        return max(1, within_a_chunk, beyond)


_COPIES = 4
"""A chunk's logits stand in memory so often: themselves, shaped, log-softmax, gradient."""


def footprint(policy: Policy, *, longest: int, fused: bool | None = None, kept: int = 0) -> Footprint:
    """Estimate from the model's shape; ``longest`` is a whole sequence's length in tokens. ``fused``: whether
    it is run on the CPU's kernels, for a policy that stands for one that will be or was; None asks it.
    ``kept``: ids that truncated sampling keeps at a token, at most.

    A layer run by `transformers` keeps about 12 copies of its input and 4 of its widened state, 3 more of its
    input in fp32 (the norms), and its attention weights, in fp32 and again in the dtype of computation where
    that is another. A fused layer keeps the residual stream twice, what attention reads and gives, and 2
    widened states. `tests/learn` holds the estimate against what autograd really saves.
    """
    if fused is None:
        fused = kernels.usable(policy.head.weight)
    whole = _fused(policy) if fused and covered(policy.module) else _plain(policy, longest, fused)
    kept = min(kept, policy.vocabulary)
    ids = 8 * kept  # held for the whole micro-batch, where a chunk's logits come and go
    return replace(whole, per_token=whole.per_token + ids, logits=whole.logits + KEPT_BYTES * kept)


def _plain(policy: Policy, longest: int, fused: bool) -> Footprint:
    config = policy.module.config.get_text_config()
    item = policy.dtype.itemsize
    width = config.hidden_size
    wide = getattr(config, "intermediate_size", None) or 4 * width
    scores = config.num_attention_heads * longest * (4 if item == 4 else 4 + item)
    softcap = getattr(config, "attn_logit_softcapping", None)
    if fused and longest <= LONGEST and softcap is None:
        scores = config.num_attention_heads * 4  # only the log-sum-exp of each
    per_token = config.num_hidden_layers * ((12 * width + 4 * wide) * item + 3 * width * 4 + scores)
    count = sum(m.numel() for m in policy.master.values())
    copies = 16 if item == 4 else 16 + item
    return Footprint(
        weights=count * copies,
        per_token=per_token,
        logits=_COPIES * 4 * policy.vocabulary,
        head=4 * policy.head.weight.numel(),
        chunk=_COPIES * CHUNK_BYTES,
    )


def _fused(policy: Policy) -> Footprint:
    config = policy.module.config
    item, width, wide = policy.dtype.itemsize, config.hidden_size, config.intermediate_size
    attn = policy.module.base_model.layers[0].self_attn
    heads, kv = attn.q_proj.out_features, attn.k_proj.out_features
    attends = 2 * heads + 2 * kv + (heads + kv if hasattr(attn, "q_norm") else 0)
    floats = 2 + 2 * heads // attn.head_dim  # the norms' scales, and log-sum-exp of each head
    per_token = config.num_hidden_layers * ((2 * width + attends + 2 * wide) * item + 4 * floats)
    count = sum(m.numel() for m in policy.master.values())
    return Footprint(
        weights=count * (16 if item == 4 else 16 + item),
        per_token=per_token,
        logits=item * policy.vocabulary,
        head=(4 + item) * policy.head.weight.numel(),
        chunk=FUSED_CHUNK_BYTES,
    )
