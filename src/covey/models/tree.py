"""Prompts and their completions packed into one row of tokens, what they share only once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from covey.models.attention import How, branches, causal, visible
from covey.models.fused import LONGEST, AttendTree, attends

_WORTH = 8
"""A stem shorter than this saves less than its separate attention costs."""


def shared_stem(prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all prompts share (a system prompt, a task's fixed words), when it is
    worth computing them once; every prompt keeps a token of its own."""
    if len(prompts) < 2:
        return 0
    alike = (len(set(column)) == 1 for column in zip(*prompts, strict=False))
    common = sum(1 for _ in itertools.takewhile(bool, alike))
    stem = min(common, min(map(len, prompts)) - 1)
    return stem if stem >= _WORTH else 0


class Tree:
    """A layout without padding: the stem, then ``prompt 0, its replies, prompt 1, its replies, …``.

    prompts: the whole length of each; replies: for each prompt the lengths of its replies (none in
    a prefill); stem: the leading tokens that all prompts share and that stand once, at the very
    front. ``keep(layer, key, value)`` receives the prompts' ``[P, S, K, D]``, stem included.

    Only attention is padded, to P prompts of S and P × N replies of L; `positions` and
    `reply_tokens` tell the caller where everything is.
    """

    cells = None  # nothing is decoded here

    def __init__(
        self,
        prompts: Sequence[int],
        replies: Sequence[Sequence[int]],
        device: torch.device | str = "cpu",
        keep: Callable[[int, Tensor, Tensor], None] | None = None,
        stem: int = 0,
    ) -> None:
        self.keep = keep
        self.stem, self.p, self.s = stem, len(prompts), max(prompts)
        self.n = max((len(r) for r in replies), default=0)
        self.l = max((length for r in replies for length in r), default=0)
        self.prompt_lengths = torch.tensor(prompts, device=device)
        own = self.s - stem  # prompt slots that are not the stem's
        self._replies_from = stem + self.p * own
        positions, slots = [torch.arange(stem)], [torch.arange(stem)]
        reply_tokens, last, at = [], [], stem
        own_parts: list[tuple[int, int]] = []  # where each prompt's own tokens are: begin, length
        for p, (length, tails) in enumerate(zip(prompts, replies, strict=True)):
            positions.append(torch.arange(stem, length))
            slots.append(torch.arange(length - stem) + stem + p * own)
            own_parts.append((at, length - stem))
            at += length - stem
            last.append(at - 1)
            for n, tail in enumerate(tails):
                positions.append(torch.arange(length, length + tail))
                slots.append(torch.arange(tail) + self._replies_from + (p * self.n + n) * self.l)
                reply_tokens.append(torch.arange(at, at + tail))
                at += tail
        self.positions = torch.cat(positions).to(device)  # [T] position in its own sequence
        self.last_of_prompt = torch.tensor(last, device=device)  # [P] packed index
        self.reply_tokens = [r.to(device) for r in reply_tokens]  # per reply: packed indices
        self._slot_of = torch.cat(slots).to(device)  # [T] padded slot of each packed token
        # padding reads token 0; what comes of it is never read back
        padded = self._replies_from + self.p * self.n * self.l
        self._token_of = torch.zeros(padded, dtype=torch.long, device=device)
        self._token_of[self._slot_of] = torch.arange(at, device=device)
        self._masks: dict[int, Tensor] = {}
        self.families = _families(stem, own_parts, replies)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
        if self.s + self.l <= LONGEST and attends(query, key, value, how.softcap):
            if self.keep is not None:
                kept = (self._prompts(t.index_select(0, self._token_of)) for t in (key, value))
                self.keep(layer, *kept)
            return AttendTree.apply(query, key, value, self.families, how.scale, how.window)
        q, k, v = (_Spread.apply(t, self._token_of, self._slot_of) for t in (query, key, value))
        p_q, p_k, p_v = (self._prompts(t) for t in (q, k, v))
        if self.keep is not None:
            self.keep(layer, p_k, p_v)
        out = causal(p_q[:, self.stem :], p_k, p_v, how).flatten(0, 1)
        if self.stem:
            stem_q, stem_k, stem_v = (t[None, : self.stem] for t in (q, k, v))
            out = torch.cat([causal(stem_q, stem_k, stem_v, how)[0], out])
        if self.n:
            grid = (self.p, self.n, self.l)
            r_q, r_k, r_v = (t[self._replies_from :].view(*grid, *t.shape[1:]) for t in (q, k, v))
            own = (r_k.permute(0, 3, 1, 2, 4), r_v.permute(0, 3, 1, 2, 4))
            prompt = (p_k.transpose(1, 2), p_v.transpose(1, 2))
            replies = branches(r_q, prompt, own, self._reply_mask(how.window), how)
            out = torch.cat([out, replies.flatten(0, 2)])
        return _Collect.apply(out, self._slot_of)

    def _prompts(self, slots: Tensor) -> Tensor:
        """Whole prompts ``[P, S, …]``: the stem before each one's own tokens."""
        own = slots[self.stem : self._replies_from].view(self.p, self.s - self.stem, *slots.shape[1:])
        if not self.stem:
            return own
        return torch.cat([slots[: self.stem].expand(self.p, *slots[: self.stem].shape), own], 1)

    def _reply_mask(self, window: int) -> Tensor:
        """``[P, 1, 1, 1, L, S + L]``: the prompt without its padding, then the reply up to itself."""
        if window not in self._masks:
            device = self.prompt_lengths.device
            length = self.prompt_lengths[:, None, None]
            own_at = torch.arange(self.l, device=device)
            prompt_at = torch.arange(self.s, device=device)
            prompt = visible(length + own_at[:, None], prompt_at, window) & (prompt_at < length)
            own = visible(own_at[:, None], own_at, window).expand(self.p, -1, -1)
            self._masks[window] = torch.cat([prompt, own], -1)[:, None, None, None]
        return self._masks[window]


def _families(
    stem: int, prompts: Sequence[tuple[int, int]], replies: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Who attends to what, as `covey.kernels.attend_tree` takes it: the stem to itself, each prompt's own
    tokens to the stem and themselves, each reply to its prompt and itself."""
    families: list[tuple[tuple[int, int, int, int], list[tuple[int, int]]]] = []
    if stem:
        families.append(((0, 0, 0, 0), [(0, stem)]))
    families.append(((0, stem, 0, 0), list(prompts)))
    for (begin, length), tails in zip(prompts, replies, strict=True):
        ends = itertools.accumulate(tails, initial=begin + length)
        families.append(((0, stem, begin, length), list(zip(ends, tails, strict=False))))
    starts = itertools.accumulate((len(members) for _, members in families), initial=0)
    return (
        torch.tensor([prefix for prefix, _ in families]),
        torch.tensor(list(starts)),
        torch.tensor([member for _, members in families for member in members]).view(-1, 2),
    )


class _Spread(torch.autograd.Function):
    """Packed tokens → padded slots. Each token has one slot, so the backward pass is a gather:
    no accumulation, whose order would be free to change."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, token_of: Tensor, slot_of: Tensor) -> Tensor:
        ctx.save_for_backward(slot_of)
        return packed.index_select(0, token_of)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slot_of,) = ctx.saved_tensors
        return grads[0].index_select(0, slot_of), None, None


class _Collect(torch.autograd.Function):
    """Padded slots → packed tokens, the inverse of `_Spread`."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, slot_of: Tensor) -> Tensor:
        ctx.save_for_backward(slot_of)
        ctx.slots = padded.shape[0]
        return padded.index_select(0, slot_of)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slot_of,) = ctx.saved_tensors
        spread = grads[0].new_zeros(ctx.slots, *grads[0].shape[1:])
        return spread.index_copy_(0, slot_of, grads[0]), None
