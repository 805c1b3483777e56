"""Decoding many sequences at once: prompts kept once per group, one new token per live sequence.

Sequences stand on a grid of P prompts × N cells. A cell holds the keys and values of its own
tokens only; the prompt's are in its row, read once for all its cells. Sequences that end leave
holes; `compact` closes them when they are worth it, and `admit` adds rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from covey import kernels
from covey.kernels import LANES
from covey.kernels.stack import Cells
from covey.models.attention import How, branches, visible
from covey.models.fused import attends
from covey.models.graphs import LONGEST, WholeGrid
from covey.models.policy import Policy
from covey.models.tree import shared_stem

_GROW = 16  # a multiple of LANES


@dataclass(slots=True)
class _Layer:
    """Keys stand turned, as scores read them: prompt key ``[P, K, D, S]`` and value ``[P, K, S, D]``, own key
    ``[P, K, N, D, M]`` and value ``[P, K, N, M, D]``; S and M are multiples of `LANES`."""

    prompt: tuple[Tensor, Tensor]
    own: tuple[Tensor, Tensor]


class Decoder:
    """Keys and values of the sequences being sampled, and the step that extends them."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        device = policy.device
        self._layers: dict[int, _Layer] = {}
        self._prompt_lengths = torch.zeros(0, dtype=torch.long, device=device)  # [P]
        self._lengths = torch.zeros(0, 0, dtype=torch.long, device=device)  # [P, N] own tokens held
        self._used = 0  # own positions any stepped cell has
        self._flat: Tensor  # [B] flat grid index p·N + n
        self._writes: tuple[Tensor, Tensor]  # [B·K] each: which of a cache's P·K·N, and where in it, is new
        self._by_row: Tensor  # [B, 4] the stepped cells in order of rows, see `kernels.attend_grid`
        self._masks: dict[int, Tensor] = {}
        self.whole = device.type == "cuda"
        """Whether all cells of a grid are stepped together, as a CUDA graph needs it."""
        self._whole: WholeGrid | None = None  # of the caches as they are: gone whenever they are replaced

    @property
    def grid(self) -> tuple[int, int]:
        """(P, N)."""
        return self._lengths.shape[0], self._lengths.shape[1]

    @torch.no_grad()
    def admit(self, prompts: Sequence[Sequence[int]], cells: int) -> Tensor:
        """Prefill prompts as new rows of at least ``cells`` cells each.

        Returns logits ``[len(prompts), vocabulary]`` of the first token after each prompt, as
        `Policy.drawable` gives them; the rows are appended in the order given.
        """
        kept: dict[int, tuple[Tensor, Tensor]] = {}

        def keep(layer: int, key: Tensor, value: Tensor) -> None:
            more = -key.shape[1] % LANES
            key, value = (F.pad(t, (0, 0, 0, 0, 0, more)) for t in (key, value))  # [P, S, K, D]
            kept[layer] = (key.permute(0, 2, 3, 1).contiguous(), value.transpose(1, 2).contiguous())

        policy = self.policy
        stem = shared_stem(prompts)
        tree = policy.tree([len(p) for p in prompts], [[] for _ in prompts], keep, stem)
        ids = [*prompts[0][:stem], *(t for p in prompts for t in p[stem:])]
        flat = torch.tensor(ids, device=policy.device)
        hidden = policy.hidden(flat, tree, tree.positions)
        logits = policy.drawable(hidden[tree.last_of_prompt])
        self._append(kept, tree.prompt_lengths, cells)
        return logits

    @torch.no_grad()
    def step(self, rows: Tensor, columns: Tensor, token_ids: Tensor) -> Tensor:
        """Append one token to each of the named cells and return the logits of the next.

        rows, columns ``[B]``: cells of the grid, each at most once; token_ids ``[B]``.
        Returns ``[B, vocabulary]``.
        """
        if self.whole:
            self._reserve(int(self._lengths.max()) + 1)
            if (whole := self._whole_grid()) is not None:
                logits = whole.step(rows * self.grid[1] + columns, token_ids, self._lengths)
                self._lengths[rows, columns] += 1
                return logits
        own = self._lengths[rows, columns]
        self._reserve(int(own.max()) + 1)
        self._place(rows, columns, own)
        hidden = self.policy.hidden(token_ids, self, self._prompt_lengths[rows] + own)
        self._lengths[rows, columns] += 1
        return self.policy.drawable(hidden)

    def _whole_grid(self) -> WholeGrid | None:
        """The step of all cells on the caches as they are now; None where they are too long for it."""
        if self._whole is None and next(iter(self._layers.values())).own[1].shape[3] <= LONGEST:
            caches = {layer: (held.prompt, held.own) for layer, held in self._layers.items()}
            self._whole = WholeGrid(self.policy, caches, self._prompt_lengths, self.grid[1])
        return self._whole

    def _place(self, rows: Tensor, columns: Tensor, own: Tensor) -> None:
        """Where the stepped cells are, in the flat views that every layer indexes alike."""
        n = self.grid[1]
        kv = next(iter(self._layers.values())).own[0].shape[1]
        heads = torch.arange(kv, device=rows.device)
        self._used = int(own.max()) + 1
        self._flat = rows * n + columns
        which = (rows[:, None] * kv + heads) * n + columns[:, None]
        self._writes = (which.flatten(), own.repeat_interleave(kv))
        self._masks = {}
        order = torch.argsort(rows, stable=True)  # cells of one prompt together
        self._by_row = torch.stack([rows, columns, own, order.new_empty(len(rows))], 1)[order]
        self._by_row[:, 3] = order

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
        """The `Layout` of a decoding step: ``[B, heads, D]`` of the stepped cells."""
        p, n = self.grid
        held = self._layers[layer]
        if attends(query, key, value, how.softcap):
            fresh, lengths = (key, value), self._prompt_lengths
            return kernels.attend_grid(
                query, fresh, held.prompt, held.own, self._by_row, lengths, how.scale, how.window
            )
        (keys, values), (which, where) = held.own, self._writes
        keys.view(-1, *keys.shape[3:])[which, :, where] = key.flatten(0, 1)
        values.view(-1, *values.shape[3:])[which, where] = value.flatten(0, 1)
        whole = query.new_zeros(p * n, *query.shape[1:]).index_copy_(0, self._flat, query)
        prompt = (held.prompt[0].transpose(2, 3), held.prompt[1])
        own = (keys[..., : self._used].transpose(3, 4), values[:, :, :, : self._used])
        whole = whole.view(p, n, 1, *query.shape[1:])
        out = branches(whole, prompt, own, self._step_mask(how.window), how)
        return out.reshape(p * n, *query.shape[1:]).index_select(0, self._flat)

    @property
    def cells(self) -> Cells:
        """Where the stepped cells' keys and values go."""
        caches = [(*held.prompt, *held.own) for _, held in sorted(self._layers.items())]
        return Cells(caches, self._by_row, self._prompt_lengths)

    def clear(self, row: int, column: int) -> None:
        """Empty a cell, for a new sequence of the same prompt."""
        self._lengths[row, column] = 0

    def compact(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Close holes: keep the named cells only, with as few rows and columns as they need.

        rows, columns ``[B]`` in ascending order of rows. Returns their new places.
        """
        self._whole = None
        kept, new_row = torch.unique(rows, return_inverse=True)
        first = torch.searchsorted(rows, kept)
        new_column = torch.arange(len(rows), device=rows.device) - first[new_row]
        # cells that stay holes repeat column 0; they are never stepped
        source = torch.zeros(len(kept), int(new_column.max()) + 1, dtype=torch.long, device=rows.device)
        source[new_row, new_column] = columns
        for held in self._layers.values():
            held.prompt = (held.prompt[0][kept], held.prompt[1][kept])
            key, value = (
                t[kept].gather(2, source[:, None, :, None, None].expand(-1, t.shape[1], -1, *t.shape[3:]))
                for t in held.own
            )
            held.own = (key, value)
        lengths = torch.zeros_like(source)
        lengths[new_row, new_column] = self._lengths[rows, columns]
        self._lengths, self._prompt_lengths = lengths, self._prompt_lengths[kept]
        return new_row, new_column

    def _append(self, kept: dict[int, tuple[Tensor, Tensor]], lengths: Tensor, cells: int) -> None:
        self._whole = None
        p, n = self.grid
        width, rows = max(cells, n), len(lengths)
        for layer, (key, value) in kept.items():
            held = self._layers.get(layer)
            if held is None:
                own = key.new_zeros(rows, key.shape[1], width, key.shape[2], 0)
                self._layers[layer] = _Layer((key, value), (own, own.transpose(3, 4).contiguous()))
                continue
            held.prompt = (_stack(held.prompt[0], key, 2), _stack(held.prompt[1], value, 2))
            fresh = (t.new_zeros(rows, t.shape[1], width, *t.shape[3:]) for t in held.own)
            key, value = (_stack(have, more, 2) for have, more in zip(held.own, fresh, strict=True))
            held.own = (key, value)
        grown = torch.zeros(p + rows, width, dtype=torch.long, device=lengths.device)
        grown[:p, :n] = self._lengths
        self._lengths = grown
        self._prompt_lengths = torch.cat([self._prompt_lengths, lengths])

    def _reserve(self, tokens: int) -> None:
        """Room for that many own tokens per cell, in steps that double."""
        for held in self._layers.values():
            have = held.own[1].shape[3]
            if have >= tokens:
                return
            self._whole = None
            more = max(2 * have, _GROW) - have
            # zeros, since what is masked must still be finite
            held.own = (F.pad(held.own[0], (0, more)), F.pad(held.own[1], (0, 0, 0, more)))

    def _step_mask(self, window: int) -> Tensor:
        """``[P, 1, N, 1, 1, S + M]``: the prompt without its padding, then own tokens so far."""
        if window not in self._masks:
            device = self._lengths.device
            length = self._prompt_lengths[:, None, None]
            query_at = (self._prompt_lengths[:, None] + self._lengths)[:, :, None]
            prompt_at = torch.arange(next(iter(self._layers.values())).prompt[1].shape[2], device=device)
            own_at = torch.arange(self._used, device=device)
            prompt = visible(query_at, prompt_at, window) & (prompt_at < length)
            own = visible(query_at - length, own_at, window)
            self._masks[window] = torch.cat([prompt, own], -1)[:, None, :, None, None]
        return self._masks[window]


def _stack(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Concatenate rows, padding ``axis`` (and the one behind it up to the last) to the longer."""

    def widen(t: Tensor, like: Tensor) -> Tensor:
        pads: list[int] = []
        for d in range(t.dim() - 1, axis - 1, -1):
            pads += [0, max(0, like.shape[d] - t.shape[d])]
        return torch.nn.functional.pad(t, pads) if any(pads) else t

    return torch.cat([widen(a, b), widen(b, a)])
