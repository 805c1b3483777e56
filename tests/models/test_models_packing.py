"""The packed forward pass is the model's own: same logits, same gradients, whatever shares the pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from covey.engines import LocalEngine
from covey.models import Decoder, Policy, attention, chosen_logprobs, load_policy, tree
from covey.models.check import compare, plain, plain_logits, verify_packing
from covey.models.tree import shared_stem
from covey.types import CoveyError, DrawKey, Request, Sampling

Build: TypeAlias = Callable[..., Policy]
Trees: TypeAlias = list[tuple[tuple[int, ...], list[tuple[int, ...]]]]
"""Prompts, each with its replies."""

FAMILIES = [
    "llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gpt2", "mistral-window", "gemma3_text-window",
]  # fmt: skip


def ids(count: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randint(3, 99, (count,), generator=torch.Generator().manual_seed(seed)).tolist())


def forest(stem: int, lengths: Sequence[tuple[int, Sequence[int]]]) -> Trees:
    """Prompts that share ``stem`` tokens, of the given lengths, with replies of the given lengths."""
    first = ids(stem, 999)
    return [
        (first + ids(length - stem, 10 * p), [ids(tail, 10 * p + n + 1) for n, tail in enumerate(tails)])
        for p, (length, tails) in enumerate(lengths)
    ]


FOREST = ((9, (5, 3)), (14, (7,)), (11, (1, 6, 2)))
"""Prompt lengths, each with the lengths of its replies: everything unequal."""


def pack(policy: Policy, trees: Trees, stem: int) -> tuple[Tensor, object]:
    layout = policy.tree([len(p) for p, _ in trees], [[len(r) for r in rs] for _, rs in trees], None, stem)
    flat = [*trees[0][0][:stem], *(t for p, rs in trees for part in (p[stem:], *rs) for t in part)]
    return torch.tensor(flat), layout


def packed_logits(policy: Policy, trees: Trees, stem: int) -> list[Tensor]:
    """Logits at the last prompt token and at every reply token, for each reply."""
    flat, layout = pack(policy, trees, stem)
    logits = policy.logits(policy.hidden(flat, layout, layout.positions))
    last = [layout.last_of_prompt[p] for p, (_, rs) in enumerate(trees) for _ in rs]
    return [
        logits[torch.cat([before[None], places])]
        for before, places in zip(last, layout.reply_tokens, strict=True)
    ]


def plain_reply_logits(policy: Policy, trees: Trees) -> list[Tensor]:
    return [plain_logits(policy, (*p, *reply))[len(p) - 1 :] for p, replies in trees for reply in replies]


def worst(one: list[Tensor], other: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("stem", [0, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_logits_are_the_plain_ones(build: Build, family: str, stem: int) -> None:
    policy = build(family)
    trees = forest(stem, FOREST)
    with torch.no_grad():
        packed = packed_logits(policy, trees, stem)
    plain_ones = plain_reply_logits(policy, trees)
    assert torch.cat(plain_ones).std() > 0.1
    assert worst(packed, plain_ones) < 2e-5


@pytest.mark.parametrize("family", ["mistral-window", "gemma3_text-window"])
def test_the_sliding_window_matters(build: Build, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Without the window the logits are others, so the comparison above can fail."""
    policy = build(family)
    trees = forest(0, FOREST)
    windows: list[int] = []

    def unbounded(scale: float, softcap: float | None, window: int) -> attention.How:
        windows.append(window)
        return how(scale, softcap)

    how = attention.How
    monkeypatch.setattr(attention, "How", unbounded)
    with torch.no_grad():
        without = packed_logits(policy, trees, 0)
    assert 5 in windows
    assert worst(without, plain_reply_logits(policy, trees)) > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_past_the_window_is_plain_too(build: Build, family: str) -> None:
    policy = build(family)
    asked = [
        Request(ids(length, length), Sampling(12), DrawKey(0, 0, str(length), sample))
        for length in (3, 9, 12)
        for sample in range(3)
    ]
    for index, completion in LocalEngine(policy).generate(asked):
        assert compare(policy, asked[index].prompt_ids, completion) < 1e-4


def reply_loss(logp: list[Tensor]) -> Tensor:
    """Every token with a weight of its own, so that no two gradients can be exchanged."""
    return sum((row * torch.linspace(0.3, 1.7, len(row)) * (1 + n)).sum() for n, row in enumerate(logp))


def gradients_of(policy: Policy, loss: Tensor) -> dict[str, Tensor]:
    policy.module.zero_grad()
    loss.backward()
    found = {name: p.grad.clone() for name, p in policy.parameters() if p.grad is not None}
    policy.module.zero_grad()
    return found


def packed_gradients(policy: Policy, trees: Trees, stem: int) -> dict[str, Tensor]:
    flat, layout = pack(policy, trees, stem)
    hidden = policy.hidden(flat, layout, layout.positions)
    last = [layout.last_of_prompt[p] for p, (_, rs) in enumerate(trees) for _ in rs]
    rows = []
    for before, places in zip(last, layout.reply_tokens, strict=True):
        predictors = torch.cat([before[None], places[:-1]])
        rows.append(chosen_logprobs(policy, hidden[predictors], flat[places])[0])
    return gradients_of(policy, reply_loss(rows))


def padded_gradients(policy: Policy, trees: Trees) -> dict[str, Tensor]:
    """What any trainer without packing computes: sequences side by side, padded on the right."""
    sequences = [((*p, *reply), len(p)) for p, replies in trees for reply in replies]
    longest = max(len(s) for s, _ in sequences)
    batch = torch.tensor([(*s, *[0] * (longest - len(s))) for s, _ in sequences])
    mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s, _ in sequences])
    with plain(policy):
        logits = policy.module(input_ids=batch, attention_mask=mask, use_cache=False).logits
    logp = logits[:, :-1].log_softmax(-1).gather(2, batch[:, 1:, None])[..., 0]
    return gradients_of(
        policy, reply_loss([logp[n, start - 1 : len(s) - 1] for n, (s, start) in enumerate(sequences)])
    )


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("stem", [0, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_gradients_are_the_padded_ones(build: Build, family: str, stem: int, tied: bool) -> None:
    policy = build(family, tied)
    trees = forest(stem, FOREST)
    packed, padded = packed_gradients(policy, trees, stem), padded_gradients(policy, trees)
    assert packed.keys() == padded.keys() == dict(policy.parameters()).keys()
    for name, gradient in padded.items():
        assert gradient.abs().max() > 0
        relative = (packed[name] - gradient).norm() / gradient.norm()
        assert relative < 1e-5, name


@pytest.mark.parametrize("stem", [0, 8])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral-window", "gemma3_text-window"])
def test_fused_attention_is_the_explicit_one(
    build: Build, monkeypatch: pytest.MonkeyPatch, family: str, stem: int
) -> None:
    policy = build(family)
    trees = forest(stem, FOREST)
    with torch.no_grad():
        explicit = packed_logits(policy, trees, stem)
        monkeypatch.setattr(attention, "_FUSED_FROM", 1)
        fused = packed_logits(policy, trees, stem)
    assert worst(fused, explicit) < 2e-5


def test_a_prompt_long_enough_for_fused_attention(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 192 query positions on, and never with a soft cap, which the fused kernel doesn't know; where
    there are kernels, only beyond what they take."""
    calls: list[int] = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def noted(query: Tensor, *args: object, **kwargs: object) -> Tensor:
        calls.append(query.shape[2])
        return fused(query, *args, **kwargs)

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", noted)
    monkeypatch.setattr(tree, "LONGEST", 199)
    trees = forest(0, ((200, (4, 2)), (193, (3,))))
    for family, expected in (("llama", [200, 200]), ("gemma2", [])):
        policy = build(family)
        calls.clear()
        with torch.no_grad():
            packed = packed_logits(policy, trees, 0)
        assert calls == expected  # one call a layer, over the longest prompt
        assert worst(packed, plain_reply_logits(policy, trees)) < 5e-5
    gradient, padded = packed_gradients(build("llama"), trees, 0), padded_gradients(build("llama"), trees)
    assert all((gradient[n] - padded[n]).norm() / padded[n].norm() < 1e-5 for n in padded)


def test_one_prompt_without_replies_is_a_prefill(build: Build) -> None:
    policy = build("llama")
    prompts = [ids(5, 1), ids(9, 2), ids(2, 3)]
    logits = Decoder(policy).admit(prompts, cells=2)
    want = torch.stack([plain_logits(policy, prompt)[-1] for prompt in prompts])
    assert (logits - want).abs().max() < 2e-5


def test_a_stem_leaves_every_prompt_a_token_of_its_own() -> None:
    long = tuple(range(20))
    assert shared_stem([long]) == 0  # alone: nothing to share with
    assert shared_stem([long, long]) == 19
    assert shared_stem([long, (*long[:12], 99)]) == 12
    assert shared_stem([long, long[:10]]) == 9
    assert shared_stem([long, (*long[:7], 99)]) == 0  # seven tokens aren't worth it
    assert shared_stem([long, (99, *long)]) == 0


@pytest.mark.parametrize(
    ("family", "message"),
    [
        # its attention computes on its own, and sees the packed row as one text
        ("bloom", r"'bloom' can't be trained: run packed, its logits differ from transformers' own"),
        ("mpt", r"'mpt' can't be trained: run packed, its logits differ"),
        ("stablelm", r"'stablelm' can't run packed: its layers don't hand their arguments on"),
        ("gpt_oss", r"'gpt_oss' can't run packed: packed attention knows no attention sinks"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_would_be_trained_wrongly_is_refused(family: str, message: str, dtype: str) -> None:
    with pytest.raises(CoveyError, match=message):
        load_policy({"family": family, "hidden_size": 32, "kv_heads": 4}, dtype=dtype)


def test_a_head_with_something_of_its_own_behind_it_is_refused(build: Build) -> None:
    policy = build("llama")
    verify_packing(policy)
    hook = policy.module.register_forward_hook(
        lambda module, given, output: setattr(output, "logits", output.logits * 1.01)
    )
    try:
        with pytest.raises(
            CoveyError, match=r"differ from transformers' own by \d\.\de-\d\d of their spread"
        ):
            verify_packing(policy)
    finally:
        hook.remove()
