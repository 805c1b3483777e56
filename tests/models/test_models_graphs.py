"""A step of the whole grid gives what a step of its living cells gives, and never waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from covey.models import Decoder, Policy, load_policy
from covey.models.graphs import LONGEST, PATIENCE, WholeGrid

Build: TypeAlias = Callable[..., Policy]

FAMILIES = ["llama", "qwen3", "gemma2", "gpt2", "mistral-window", "gemma3_text-window"]


def ids(count: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randint(3, 99, (count,), generator=torch.Generator().manual_seed(seed)).tolist())


def driven(policy: Policy, *, whole: bool, steps: int = 20) -> list[Tensor]:
    """What a schedule does to a decoder, and each step's logits: cells that end, are used again or wait, a
    prompt that comes later, a grid that is compacted, and caches that grow (at 16 tokens)."""
    decoder = Decoder(policy)
    decoder.whole = whole
    found = [decoder.admit([ids(9, 0), ids(12, 1)], cells=3)]
    cells = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    for step in range(steps):
        if step == 3:
            cells.remove((0, 1))
        if step == 5:
            decoder.clear(0, 1)
            cells.append((0, 1))
        if step == 7:
            found.append(decoder.admit([ids(5, 2)], cells=2))
            cells.append((2, 1))
        if step == 9:
            cells.remove((0, 0))
            cells.remove((1, 1))
            cells.sort()
            rows, columns = decoder.compact(*torch.tensor(cells, device=policy.device).T.contiguous())
            cells = list(zip(rows.tolist(), columns.tolist(), strict=True))
        stepped = cells[1:] if step == 11 else cells  # one waits, and is none the worse for it
        rows, columns = torch.tensor(stepped, device=policy.device).T
        token_ids = torch.tensor(ids(len(stepped), 100 + step), device=policy.device)
        found.append(decoder.step(rows, columns, token_ids))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_grid_gives_what_its_living_cells_give(family: str, build: Build) -> None:
    policy = build(family)
    for whole, alone in zip(driven(policy, whole=True), driven(policy, whole=False), strict=True):
        assert whole.shape == alone.shape
        assert (whole - alone).abs().max() < 1e-4  # logits of some 10, sums in another order


def test_it_is_the_whole_grid_that_is_stepped(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    compute = WholeGrid.compute
    monkeypatch.setattr(WholeGrid, "compute", lambda self: seen.append(len(self.lengths)) or compute(self))
    driven(build("llama"), whole=True, steps=4)
    assert seen == [6] * 4  # two prompts of three cells, one of which nothing was ever put into
    driven(build("llama"), whole=False, steps=4)
    assert len(seen) == 4


def test_caches_too_long_for_it_are_stepped_cell_by_cell(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covey.models.decoding.LONGEST", 16)
    assert LONGEST > 16
    decoder = Decoder(build("llama"))
    decoder.whole = True
    decoder.admit([ids(9, 0)], cells=1)
    used = []
    for step in range(18):
        decoder.step(torch.tensor([0]), torch.tensor([0]), torch.tensor(ids(1, step)))
        used.append(decoder._whole is not None)
    assert used == [True] * 16 + [False] * 2


def grid(policy: Policy) -> WholeGrid:
    decoder = Decoder(policy)
    decoder.whole = True
    decoder.admit([ids(9, 0), ids(12, 1)], cells=2)
    decoder.step(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([5, 6]))
    assert decoder._whole is not None
    return decoder._whole


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_in_a_step_waits_for_the_device(
    family: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tensors without values nothing can be read, so whatever would wait for one raises."""
    policy = build(family)
    monkeypatch.setattr(policy, "dense", None)  # the CPU's kernels; a GPU has none
    whole = grid(policy)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        assert whole.compute().shape == (4, policy.vocabulary)


def test_what_waits_is_found(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = build("llama")
    monkeypatch.setattr(policy, "dense", None)
    whole = grid(policy)
    branches: Any = whole.attend

    def waits(layer: int, query: Tensor, *rest: Any) -> Tensor:
        return branches(layer, query * query.max().item(), *rest)

    monkeypatch.setattr(whole, "attend", waits)
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.no_grad(),
        pytest.raises(DataDependentOutputException),
    ):
        whole.compute()


@pytest.mark.gpu
def test_a_graph_gives_what_steps_without_it_give() -> None:
    policy = load_policy({"family": "llama", "hidden_size": 64, "seed": 1}, dtype="float32", device="cuda")
    steps = 16 + 2 * PATIENCE
    for whole, alone in zip(
        driven(policy, whole=True, steps=steps), driven(policy, whole=False, steps=steps), strict=True
    ):
        assert (whole - alone).abs().max() < 1e-4
    decoder = Decoder(policy)
    decoder.admit([ids(9, 0)], cells=2)
    rows, columns = torch.tensor([[0, 0], [0, 1]], device="cuda")
    for step in range(PATIENCE + 2):
        decoder.step(rows, columns, torch.tensor(ids(2, step), device="cuda"))
    assert decoder._whole is not None
    assert decoder._whole.graph is not None
