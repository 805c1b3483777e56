"""Log-probabilities of chosen tokens, without ever holding the logits of more than a chunk."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from covey import kernels
from covey.models.fused import gathered, linear, linear_back
from covey.models.kept import Kept, kept_logprobs
from covey.models.policy import Policy, shape_logits

CHUNK_BYTES = 64 << 20
"""Upper bound of one chunk's fp32 logits: with SmolLM2's 49,152 words, 341 tokens. The backward pass
holds four times as much; larger chunks are no faster."""

FUSED_CHUNK_BYTES = 3 << 26
"""The same where kernels read the logits as they are and turn them into their gradient in place: with
49,152 words in bf16, 2,048 tokens."""


def chosen_logprobs(
    policy: Policy,
    hidden: Float[Tensor, "tokens width"],
    chosen: Int[Tensor, " tokens"],
    temperature: float = 1.0,
    kept: Kept | None = None,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """(``logp``, entropy in nats) of the next token after each hidden state, both fp32.

    Both are of the distribution ``softmax(logits / temperature)``, the one the sampler draws
    from, and both carry gradient. Logits are made chunk by chunk in the forward pass and again
    in the backward pass, so memory is bounded by one chunk whatever the number of tokens. On the
    CPU's kernels the last chunk's logits wait for the backward pass, and are made once.

    ``kept`` are the ids that sampling kept at each token: both are then over these alone.
    """
    if kept is not None:
        return kept_logprobs(policy, hidden, kept, temperature)
    head = policy.head
    bias = head.bias if head.bias is not None else None
    if policy.plain_head and kernels.usable(hidden, head.weight):
        return _Fused.apply(hidden, head.weight, bias, chosen, temperature)
    return _Chosen.apply(hidden, head.weight, bias, chosen, temperature, policy.module.config)


class _Chosen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        chosen: Tensor,
        temperature: float,
        config: Any,
    ) -> tuple[Tensor, Tensor]:
        ctx.temperature, ctx.config = temperature, config
        ctx.save_for_backward(hidden, weight, bias, chosen)
        logp = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        entropy = torch.empty_like(logp)
        for part in _chunks(len(hidden), weight.shape[0]):
            log = _log_softmax(hidden[part], weight, bias, temperature, config)
            logp[part] = log.gather(1, chosen[part, None])[:, 0]
            entropy[part] = -(log.exp() * log).sum(1)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, chosen = ctx.saved_tensors
        grad_logp, grad_entropy = grads
        d_hidden = torch.empty_like(hidden)
        d_weight: Tensor | None = None
        d_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        with_entropy = bool(grad_entropy.any())
        for part in _chunks(len(hidden), weight.shape[0]):
            rows = hidden[part].detach()
            with torch.enable_grad():
                # the model's own scaling and soft cap are differentiated by autograd
                raw = torch.nn.functional.linear(rows, weight, bias).float().detach().requires_grad_()
                log = _tempered(shape_logits(raw, ctx.config), ctx.temperature).log_softmax(1)
                picked = log.gather(1, chosen[part, None])[:, 0]
                total = picked @ grad_logp[part]
                if with_entropy:
                    total = total - (log.exp() * log).sum(1) @ grad_entropy[part]
            (d_logits,) = torch.autograd.grad(total, raw)
            low = d_logits.to(weight.dtype)
            d_hidden[part] = low @ weight
            if d_weight is None:
                d_weight = (low.T @ rows).float()
            else:
                d_weight += low.T @ rows
            if d_bias is not None:
                d_bias += d_logits.sum(0)
        d_bias = None if d_bias is None or bias is None else d_bias.to(bias.dtype)
        assert d_weight is not None
        return d_hidden, d_weight.to(weight.dtype), d_bias, None, None, None


class _Fused(torch.autograd.Function):
    """The same over `covey.kernels`: one pass over the logits each way.

    The last chunk's logits are kept: the backward pass begins with them, before any other memory is
    asked for, so that its peak stays where it was, and a micro-batch of one chunk makes them only once.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, chosen: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        found = []
        for part in _fused_chunks(hidden, weight):
            ctx.logits = None  # the chunk before goes first: there is never more than one
            ctx.logits = linear(hidden[part], weight, bias)
            found.append(kernels.chosen(ctx.logits, chosen[part], temperature))
        logp, entropy, lse = (torch.cat(several) for several in zip(*found, strict=True))
        if not any(ctx.needs_input_grad):
            ctx.logits = None
        ctx.temperature = temperature
        ctx.save_for_backward(hidden, weight, bias, chosen, lse, entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, chosen, lse, entropy = ctx.saved_tensors
        of_logp, of_entropy = (g.float().contiguous() for g in grads)
        d_hidden = torch.empty_like(hidden)
        d_weight: Tensor | None = None
        d_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        parts = _fused_chunks(hidden, weight)
        for part in reversed(parts):
            rows = hidden[part]
            logits, ctx.logits = ctx.logits, None  # they become their gradient: no second pass finds them
            if logits is None:
                logits = linear(rows, weight, bias)
            saved, wanted = (lse[part], entropy[part]), (of_logp[part], of_entropy[part])
            kernels.chosen_backward(logits, chosen[part], ctx.temperature, saved, wanted)
            d_hidden[part] = linear_back(logits, weight)
            own = gathered(weight, logits, rows)
            if own is None or len(parts) == 1:
                d_weight = own
            elif d_weight is None:
                d_weight = own.float()
            else:
                d_weight += own
            if d_bias is not None:
                d_bias += logits.float().sum(0)
            del logits
        d_weight = None if d_weight is None else d_weight.to(weight.dtype)
        d_bias = None if d_bias is None or bias is None else d_bias.to(bias.dtype)
        return d_hidden, d_weight, d_bias, None, None


def _fused_chunks(hidden: Tensor, weight: Tensor) -> list[slice]:
    """As few chunks as the bound allows, of equal size."""
    most = max(1, FUSED_CHUNK_BYTES // (weight.shape[0] * weight.element_size()))
    count = max(1, -(-len(hidden) // most))
    size = max(1, -(-len(hidden) // count))
    return [slice(i, min(i + size, len(hidden))) for i in range(0, max(len(hidden), 1), size)]


def _log_softmax(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, config: Any
) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias).float()
    return _tempered(shape_logits(logits, config), temperature).log_softmax(1)


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1 else logits / temperature


def _chunks(tokens: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_BYTES // (4 * vocabulary))
    return [slice(i, min(i + size, tokens)) for i in range(0, tokens, size)]
