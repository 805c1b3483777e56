"""One attention for every model: packed tokens, and a group's prompt computed once.

`transformers` lets a model's attention be named. Registered here as ``covey``, this function
receives every layer's rotated queries, keys and values, so that any architecture which goes
through that interface can run on one packed row of tokens, without padding in its linear layers.
A `Layout` says where each token sits:

- `tree.Tree` (learning and prefill): prompts, each followed by its completions;
- `decoding.Slots` (sampling): one new token for each running sequence.

Both come down to `branches`: the replies of one prompt attend to that prompt, which is read once
for all of them, and to themselves.

Letters: T packed tokens · P prompts · N replies of a prompt · L reply positions · S prompt
positions · M reply keys · H query heads · K key/value heads · R = H/K · D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from covey.kernels.stack import Cells

NAME = "covey"
_FUSED_FROM = 192
"""From this many query positions on, fused attention is used: its backward is slow for short
queries, while explicit scores grow with the square of the length."""


@dataclass(frozen=True, slots=True)
class How:
    """A layer's own settings: scale of the scores, soft cap, sliding window (positions, 0 = none)."""

    scale: float
    softcap: float | None = None
    window: int = 0


@runtime_checkable
class Layout(Protocol):
    """Where each packed token sits, and what it may attend to."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
        """``[T, H, D]``, ``[T, K, D]``, ``[T, K, D]`` → ``[T, H, D]``."""
        ...

    @property
    def cells(self) -> Cells | None:
        """Where each token's key and value go, if all are new tokens of sequences that are being decoded."""
        ...


def register() -> None:
    """Make ``attn_implementation="covey"`` known to `transformers`; masks come from the layout."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What `transformers` calls in every layer: ``[1, heads, T, D]`` in, ``[1, T, H, D]`` out."""
    if layout is None:
        raise NotImplementedError("its layers don't hand their arguments on to the attention function")
    if s_aux is not None:
        raise NotImplementedError("packed attention knows no attention sinks")
    how = How(scaling if scaling is not None else query.shape[-1] ** -0.5, softcap, sliding_window or 0)
    q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
    return layout.attend(module.layer_idx, q, k, v, how)[None], None


def visible(query_at: Tensor, key_at: Tensor, window: int) -> Tensor:
    """Causal, and within the sliding window where the layer has one."""
    mask = key_at <= query_at
    return mask & (key_at > query_at - window) if window else mask


def causal(query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
    """Causal attention of the last positions: ``[B, L, H, D]`` over ``[B, S, K, D]`` → ``[B, L, H, D]``.

    The L queries stand at positions S - L to S - 1. Padding must stand at the end, where no real
    position looks.
    """
    (length, heads), (keys, kv) = query.shape[1:3], key.shape[1:3]
    at = torch.arange(keys, device=query.device)
    mask = visible(at[keys - length :, None], at[None, :], how.window)
    if length >= _FUSED_FROM and how.softcap is None:
        q, k, v = (t.transpose(1, 2) for t in (query, key, value))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=how.scale, enable_gqa=heads != kv)
        return out.transpose(1, 2)
    q = _by_key_head(query[:, None], kv)[:, :, 0]  # [B, K, R, L, D]
    k, v = key.transpose(1, 2), value.transpose(1, 2)  # [B, K, S, D]
    scores = (q.flatten(2, 3) @ k.transpose(2, 3)).view(*q.shape[:4], keys)
    weights = _weights(scores, mask, how).to(v.dtype)
    out = (weights.flatten(2, 3) @ v).view_as(q)
    return out.permute(0, 3, 1, 2, 4).flatten(2, 3)


def branches(
    query: Tensor, prompt: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], mask: Tensor, how: How
) -> Tensor:
    """The replies of each prompt attend to it and to themselves.

    query ``[P, N, L, H, D]``; prompt key and value ``[P, K, S, D]``; own key and value
    ``[P, K, N, M, D]``; mask, over prompt and own positions end to end, broadcasts to
    ``[P, K, N, R, L, S + M]``. Returns ``[P, N, L, H, D]``.
    """
    (p_k, p_v), (o_k, o_v) = prompt, own
    kv, s = p_k.shape[1], p_k.shape[2]
    q = _by_key_head(query, kv)  # [P, K, N, R, L, D]
    to_prompt = (q.flatten(2, 4) @ p_k.transpose(2, 3)).view(*q.shape[:5], s)
    to_own = (q.flatten(3, 4) @ o_k.transpose(3, 4)).view(*q.shape[:5], -1)
    weights = _weights(torch.cat([to_prompt, to_own], -1), mask, how).to(p_v.dtype)
    out = (weights[..., :s].flatten(2, 4) @ p_v).view_as(q)
    out = out + (weights[..., s:].flatten(3, 4) @ o_v).view_as(q)
    return out.permute(0, 2, 4, 1, 3, 5).flatten(3, 4)


def _by_key_head(query: Tensor, kv: int) -> Tensor:
    """``[P, N, L, H, D] → [P, K, N, R, L, D]``: the query heads that share a key head stand together,
    further rows of one product, so that keys are never repeated."""
    p, n, length, heads, size = query.shape
    return query.view(p, n, length, kv, heads // kv, size).permute(0, 3, 1, 4, 2, 5)


def _weights(scores: Tensor, mask: Tensor, how: How) -> Tensor:
    """Masked softmax in fp32."""
    scores = scores.float() * how.scale
    if how.softcap is not None:
        scores = how.softcap * torch.tanh(scores / how.softcap)
    return scores.masked_fill(~mask, float("-inf")).softmax(-1)
