"""A decoding step as one CUDA graph.

On a GPU, a step of a small model is a thousand short kernels, and launching them one by one from Python takes
longer than they do. A graph launches them all at once, but repeats them on the very same memory. So the whole
grid is stepped here, cells without a living sequence among them, on buffers that stay where they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from covey.models.attention import How, branches, visible
from covey.models.policy import Policy

PATIENCE = 4
"""Steps on one grid before its graph is made, which takes as long as some: a grid may change at once."""

LONGEST = 2048
"""Own positions up to which a graph is used: it reads all there is room for, up to twice what is used."""


Caches: TypeAlias = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A layer's prompt key and value and own key and value, in the shapes that `decoding` keeps them in."""


class WholeGrid:
    """The step of every cell of a grid; a `Layout` of P·N tokens in order of rows, then columns.

    held: each layer's caches, which are written to. prompt_lengths ``[P]``. A grid whose caches are
    replaced, since they grow or are compacted, needs another object.
    """

    def __init__(
        self, policy: Policy, held: Mapping[int, Caches], prompt_lengths: Tensor, cells: int
    ) -> None:
        self.policy, self.held, self.prompt_lengths = policy, held, prompt_lengths
        self.rows, self.columns = len(prompt_lengths), cells
        device, count = prompt_lengths.device, self.rows * cells
        self.token_ids = torch.zeros(count, dtype=torch.long, device=device)
        self.lengths = torch.zeros(count, dtype=torch.long, device=device)
        (_, prompt_values), (_, own_values) = next(iter(self.held.values()))
        kv = own_values.shape[1]
        row = torch.arange(self.rows, device=device)[:, None, None]
        column = torch.arange(cells, device=device)[None, :, None]
        head = torch.arange(kv, device=device)
        self.which = ((row * kv + head) * cells + column).flatten()  # [P·N·K]: where a cell's heads are kept
        self.prompt_at = torch.arange(prompt_values.shape[2], device=device)
        self.own_at = torch.arange(own_values.shape[3], device=device)
        self.steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits: Tensor | None = None

    @torch.no_grad()
    def step(self, flat: Tensor, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Append a token to each of the cells ``flat`` ``[B]`` (row · N + column) and return their logits
        ``[B, vocabulary]``. lengths ``[P, N]``: own tokens that each cell holds, all below the room there is.

        In every other cell what stands behind its last token is written over, and nothing else.
        """
        self.token_ids.zero_().index_copy_(0, flat, token_ids)
        self.lengths.copy_(lengths.flatten())
        self.steps += 1
        if self.graph is None and self.steps > PATIENCE and flat.device.type == "cuda" and _capturable:
            self._capture()
        if self.graph is None:
            return self.compute().index_select(0, flat)
        for call in self.policy.before_pass:  # what a graph repeats is kernels alone
            call()
        self.graph.replay()
        assert self.logits is not None
        return self.logits.index_select(0, flat)  # a copy: the next replay writes over it

    def compute(self) -> Tensor:
        """Logits ``[P·N, vocabulary]`` of what the buffers hold; nothing in it may wait for the device."""
        positions = self.prompt_lengths[:, None].expand(-1, self.columns).reshape(-1) + self.lengths
        return self.policy.drawable(self.policy.hidden(self.token_ids, self, positions))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
        """``[P·N, heads, D]``, see `Layout`."""
        (prompt_keys, prompt_values), (keys, values) = self.held[layer]
        where = self.lengths[:, None].expand(-1, keys.shape[1]).reshape(-1)
        keys.view(-1, *keys.shape[3:])[self.which, :, where] = key.flatten(0, 1)
        values.view(-1, *values.shape[3:])[self.which, where] = value.flatten(0, 1)
        whole = query.reshape(self.rows, self.columns, 1, *query.shape[1:])
        prompt, own = (prompt_keys.transpose(2, 3), prompt_values), (keys.transpose(3, 4), values)
        return branches(whole, prompt, own, self._mask(how.window), how).reshape(query.shape)

    @property
    def cells(self) -> None:
        """The CPU's kernels have a step of their own."""
        return None

    def _mask(self, window: int) -> Tensor:
        """``[P, 1, N, 1, 1, S + M]``: the prompt without its padding, then own tokens so far."""
        length, own_length = self.prompt_lengths[:, None, None], self.lengths.view(self.rows, -1, 1)
        prompt = visible(length + own_length, self.prompt_at, window) & (self.prompt_at < length)
        own = visible(own_length, self.own_at, window)
        return torch.cat([prompt, own], -1)[:, None, :, None, None]

    def _capture(self) -> None:
        """Record the step. Where something in the model waits for the device, which no graph can hold, say so
        once and go on without."""
        global _capturable
        try:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(
                aside
            ):  # what is made at a first call is made outside; writes are the same
                self.compute()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.logits = self.compute()
            self.graph = graph
        except RuntimeError as error:
            _capturable = False
            told = str(error).partition("\n")[0]
            warnings.warn(
                f"decoding without CUDA graphs, which is slower: {told}", RuntimeWarning, stacklevel=2
            )


_capturable = True  # until a capture has failed in this process
