"""Attention over packed trees and over a decoding grid, against masked softmax written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from covey import kernels
from covey.models.tree import Tree

pytestmark = pytest.mark.skipif(kernels.why_not() is not None, reason=f"no kernels: {kernels.why_not()}")

HEADS = st.sampled_from([(1, 1, 4), (4, 2, 16), (9, 3, 20), (10, 1, 64), (4, 4, 80)])
"""(query heads, key heads, head size)."""


def seen(tree: Tree, prompts: list[int], replies: list[list[int]], window: int) -> Tensor:
    """``[T, T]``: who sees whom in the packed row, from the definition."""
    owners: list[tuple[int, int]] = [(-1, -1)] * tree.stem  # (prompt, reply), -1: shared
    for p, (length, tails) in enumerate(zip(prompts, replies, strict=True)):
        owners += [(p, -1)] * (length - tree.stem)
        for r, tail in enumerate(tails):
            owners += [(p, r)] * tail
    at = tree.positions.tolist()
    mask = torch.zeros(len(owners), len(owners), dtype=torch.bool)
    for i, (p, r) in enumerate(owners):
        for j, (q, s) in enumerate(owners):
            family = q in (-1, p) and s in (-1, r)
            near = not window or at[j] > at[i] - window
            mask[i, j] = family and at[j] <= at[i] and near
    return mask


def written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = torch.einsum("thd,shd->hts", q, k) * scale
    return torch.einsum("hts,shd->thd", scores.masked_fill(~mask, float("-inf")).softmax(-1), v)


@settings(deadline=None, max_examples=40)
@given(
    heads=HEADS,
    prompts=st.lists(st.integers(9, 30), min_size=1, max_size=3),
    tails=st.lists(st.integers(1, 21), min_size=0, max_size=3),
    stem=st.sampled_from([0, 8]),
    window=st.sampled_from([0, 5, 17]),
)
def test_a_tree_and_its_gradients(
    heads: tuple[int, int, int], prompts: list[int], tails: list[int], stem: int, window: int
) -> None:
    h, kv, size = heads
    replies = [tails[: len(tails) - p] for p in range(len(prompts))]
    tree = Tree(prompts, replies, stem=stem)
    t = len(tree.positions)
    generator = torch.Generator().manual_seed(t)
    q, k, v, dout = (torch.randn(t, n, size, generator=generator).requires_grad_() for n in (h, kv, kv, h))
    want = written_out(q, k, v, seen(tree, prompts, replies, window), 0.3)
    wanted = torch.autograd.grad(want, [q, k, v], dout)
    with torch.no_grad():
        out, lse = kernels.attend_tree(q, k, v, tree.families, 0.3, window)
        found = kernels.attend_tree_backward((q, k, v, out, lse), tree.families, dout, 0.3, window)
    assert torch.allclose(out, want, atol=1e-5)
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(
    heads=HEADS,
    held=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    prompts=st.lists(st.integers(1, 20), min_size=2, max_size=2),
    window=st.sampled_from([0, 6]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_a_grid_gives_what_a_tree_gives(
    heads: tuple[int, int, int], held: list[int], prompts: list[int], window: int, dtype: torch.dtype
) -> None:
    """The last token of each reply, by itself over a cache, has the bits it has in a packed row."""
    h, kv, size = heads
    replies = [[n + 1 for n in held], [n + 1 for n in reversed(held)]]
    tree = Tree(prompts, replies)
    t = len(tree.positions)
    generator = torch.Generator().manual_seed(t)
    q, k, v = (torch.randn(t, n, size, generator=generator).to(dtype) for n in (h, kv, kv))
    want, _ = kernels.attend_tree(q, k, v, tree.families, 0.3, window)

    columns, s, m = len(held), 32, 32
    # what lies behind a prompt or behind the tokens held may be anything
    prompt = [torch.full((2, kv, s, size), torch.nan, dtype=dtype) for _ in range(2)]
    own = [torch.full((2, kv, columns, m, size), torch.nan, dtype=dtype) for _ in range(2)]
    last: list[int] = []
    cells: list[list[int]] = []
    at = 0
    for p, length in enumerate(prompts):
        for cache, rows in zip(prompt, (k, v), strict=True):
            cache[p, :, :length] = rows[at : at + length].transpose(0, 1)
        at += length
        for column, n in enumerate(replies[p]):
            for cache, rows in zip(own, (k, v), strict=True):
                cache[p, :, column, : n - 1] = rows[at : at + n - 1].transpose(0, 1)
            at += n
            cells.append([p, column, n - 1, len(cells)])
            last.append(at - 1)
    prompt[0], own[0] = prompt[0].transpose(2, 3).contiguous(), own[0].transpose(3, 4).contiguous()
    found = kernels.attend_grid(
        q[last], (k[last], v[last]), (prompt[0], prompt[1]), (own[0], own[1]),
        torch.tensor(cells), torch.tensor(prompts), 0.3, window,
    )  # fmt: skip
    assert torch.equal(found, want[last])
    # some architectures hand over heads that lie apart
    apart = [t[last].transpose(0, 1).contiguous().transpose(0, 1) for t in (q, k, v)]
    again = kernels.attend_grid(
        apart[0], (apart[1], apart[2]), (prompt[0], prompt[1]), (own[0], own[1]),
        torch.tensor(cells), torch.tensor(prompts), 0.3, window,
    )  # fmt: skip
    assert torch.equal(again, found)


def test_neither_threads_nor_neighbours_change_a_bit() -> None:
    alone, beside = Tree([20], [[7]]), Tree([20, 12], [[7, 30], [3]])
    q, k, v = (torch.randn(len(beside.positions), n, 16).bfloat16() for n in (6, 2, 2))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one, _ = kernels.attend_tree(q, k, v, beside.families, 0.25, 0)
        torch.set_num_threads(2)
        two, _ = kernels.attend_tree(q, k, v, beside.families, 0.25, 0)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)
    few, _ = kernels.attend_tree(q[:27], k[:27], v[:27], alone.families, 0.25, 0)
    assert torch.equal(few, one[:27])
