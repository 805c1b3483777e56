"""What every engine promises: tokens in, tokens out, each one drawn by its key and told truthfully."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch

from covey.engines import ENGINES
from covey.models import Decoder, Policy, load_policy
from covey.models.check import compare
from covey.protocols import Engine
from covey.types import Completion, CoveyError, DrawKey, Request, Sampling, StopReason, Weights

FAMILIES = ("llama", "qwen3", "gpt2", "gemma2")
BOUND = {"float32": 1e-4, "bfloat16": 0.2}
"""Nats that ``sampler_logp`` may lie from a plain `transformers` pass in the same dtype. Logits of these
models reach ±12, where bf16 keeps steps of 1/16, and two orders of summation may round two of them apart:
2 × 1/16 / 0.7 = 0.18 at temperature 0.7."""


@cache
def policy_of(family: str = "llama", dtype: str = "float32") -> Policy:
    """A small random model with opinions: as initialised, it finds all words about equally likely."""
    config = {"family": family, "hidden_size": 32, "intermediate_size": 48, "tie_embeddings": False}
    policy = load_policy(config, dtype=dtype)
    with torch.no_grad():
        for name, parameter in policy.parameters():
            if parameter.dim() == 2 and "emb" not in name:
                parameter.mul_(25 if parameter is policy.head.weight else 5)
    return policy


@pytest.fixture(params=[(name, dtype) for name in ENGINES for dtype in BOUND], ids="-".join)
def policy(request: pytest.FixtureRequest) -> Policy:
    return policy_of("llama", request.param[1])


@pytest.fixture
def engine(request: pytest.FixtureRequest, policy: Policy) -> Engine:
    return ENGINES[request.node.callspec.params["policy"][0]](policy)


@pytest.fixture
def fp32() -> Policy:
    return policy_of("llama")


def requests_of(
    policy: Policy,
    groups: Sequence[tuple[str, int]],
    temperature: float = 1.0,
    most: int = 24,
    seed: int = 0,
    **truncation: float,
) -> list[Request]:
    """``groups``: a prompt and how many answers to it."""
    return [
        Request(
            policy.chat.prompt([{"role": "user", "content": text}]),
            Sampling(most, temperature, **truncation),
            DrawKey(seed, 0, f"{number}:{text}", sample),
        )
        for number, (text, count) in enumerate(groups)
        for sample in range(count)
    ]


MIXED = (("1+1=", 3), ("what is 12 times 34, and why?", 1), ("?", 5), ("7-5", 2))


def answers(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    """In the order asked; every request must have been answered exactly once."""
    given = list(engine.generate(requests))
    assert Counter(index for index, _ in given) == Counter(range(len(requests)))
    return [completion for _, completion in sorted(given, key=lambda pair: pair[0])]


def tokens(completions: Sequence[Completion]) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in completions]


def test_it_is_an_engine(engine: Engine) -> None:
    assert isinstance(engine, Engine)
    assert answers(engine, []) == []


def test_greedy_is_the_likeliest_token_again_and_again(engine: Engine, policy: Policy) -> None:
    asked = requests_of(policy, MIXED, temperature=0.0)
    first = answers(engine, asked)
    assert first == answers(engine, asked)
    other_draws = [replace(r, key=replace(r.key, seed=99)) for r in asked]
    assert tokens(first) == tokens(answers(engine, other_draws))
    # samples 0, 1, 2 of the first prompt
    assert len(set(tokens(first)[:3])) == 1
    # greedy completions report the untempered distribution
    bound = BOUND[str(policy.dtype).removeprefix("torch.")]
    assert all(compare(policy, r.prompt_ids, c) <= bound for r, c in zip(asked, first, strict=True))


def test_the_key_alone_decides_what_is_drawn(engine: Engine, policy: Policy) -> None:
    asked = requests_of(policy, MIXED)
    first = answers(engine, asked)
    assert first == answers(engine, asked)
    assert tokens(first) == tokens(answers(engine, asked[::-1])[::-1])
    request = asked[0]
    for other in (
        replace(request.key, seed=1),
        replace(request.key, step=1),
        replace(request.key, problem_id="other"),
        replace(request.key, sample=9),
        replace(request.key, turn=1),
        replace(request.key, purpose="eval"),
    ):
        [changed] = answers(engine, [replace(request, key=other)])
        assert changed.token_ids != first[0].token_ids


def test_fewer_tokens_are_the_start_of_more(engine: Engine, policy: Policy) -> None:
    long = answers(engine, requests_of(policy, MIXED, most=24))
    short = answers(engine, requests_of(policy, MIXED, most=5))
    assert tokens(short) == [ids[:5] for ids in tokens(long)]


def test_why_it_stopped(engine: Engine, policy: Policy) -> None:
    completions = answers(engine, requests_of(policy, [("go", 64)], most=40))
    stops = Counter(completion.stop for completion in completions)
    assert stops[StopReason.END] > 0
    assert stops[StopReason.LENGTH] > 0
    assert stops[StopReason.ERROR] == 0
    for completion in completions:
        assert completion.sampler_logp is not None
        assert len(completion.sampler_logp) == len(completion.token_ids)
        ends = [place for place, token in enumerate(completion.token_ids) if token in policy.end_ids]
        if completion.stop is StopReason.END:
            assert ends == [len(completion.token_ids) - 1]  # included, and nothing after it
        else:
            assert ends == []
            assert len(completion.token_ids) == 40
        assert policy.tokenizer.eos_token not in completion.text


def test_each_request_has_its_own_limits(engine: Engine, policy: Policy) -> None:
    asked = [
        replace(request, sampling=Sampling(1 + place, 0.0 if place % 2 else 0.7))
        for place, request in enumerate(requests_of(policy, MIXED))
    ]
    for place, (request, completion) in enumerate(zip(asked, answers(engine, asked), strict=True)):
        assert 1 <= len(completion.token_ids) <= 1 + place
        [alone] = answers(engine, [request])
        assert alone.token_ids == completion.token_ids


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampler_logp_is_what_transformers_computes(
    engine: Engine, policy: Policy, temperature: float
) -> None:
    groups = [(f"{n} " * (1 + n % 7) + "=", 1 + (5 * n) % 16) for n in range(35)]
    asked = requests_of(policy, groups, temperature, most=12)[:256]
    assert len(asked) == 256
    worst = max(
        compare(policy, request.prompt_ids, completion, temperature)
        for request, completion in zip(asked, answers(engine, asked), strict=True)
    )
    assert worst <= BOUND[str(policy.dtype).removeprefix("torch.")]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ENGINES)
def test_every_family_is_sampled_truthfully(name: str, family: str) -> None:
    policy = policy_of(family)
    asked = requests_of(policy, MIXED)
    for request, completion in zip(asked, answers(ENGINES[name](policy), asked), strict=True):
        assert compare(policy, request.prompt_ids, completion) <= BOUND["float32"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_of_many_is_many_batches_of_one(name: str, family: str) -> None:
    policy = policy_of(family)
    asked = requests_of(policy, MIXED)
    together = answers(ENGINES[name](policy), asked)
    for request, completion in zip(asked, together, strict=True):
        [alone] = answers(ENGINES[name](policy), [request])
        assert alone.token_ids == completion.token_ids
        assert alone.stop is completion.stop
        assert alone.sampler_logp == pytest.approx(completion.sampler_logp, abs=1e-5)


CUT = {"top_k": 9, "top_p": 0.9, "min_p": 0.01}


def test_truncated_the_key_alone_decides_too(engine: Engine, policy: Policy) -> None:
    asked = requests_of(policy, MIXED, **CUT)
    first = answers(engine, asked)
    assert first == answers(engine, asked)
    assert tokens(first) == tokens(answers(engine, asked[::-1])[::-1])
    [other] = answers(engine, [replace(asked[0], key=replace(asked[0].key, seed=1))])
    assert other.token_ids != first[0].token_ids


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_what_was_kept_is_told_for_every_token(engine: Engine, policy: Policy, temperature: float) -> None:
    bound = BOUND[str(policy.dtype).removeprefix("torch.")]
    asked = requests_of(policy, MIXED, temperature, **CUT)
    sizes: set[int] = set()
    unmasked: list[float] = []
    for request, completion in zip(asked, answers(engine, asked), strict=True):
        assert completion.kept is not None
        assert len(completion.kept) == len(completion.token_ids)
        for token, ids in zip(completion.token_ids, completion.kept, strict=True):
            assert token in ids
            assert list(ids) == sorted(set(ids))
            sizes.add(len(ids))
        # sampler_logp is of what was drawn from: over the kept ids, and no others
        assert compare(policy, request.prompt_ids, completion, temperature) <= bound
        unmasked.append(compare(policy, request.prompt_ids, replace(completion, kept=None), temperature))
    assert max(unmasked) > bound
    assert 1 <= min(sizes) < max(sizes) <= CUT["top_k"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ENGINES)
def test_what_is_kept_is_no_matter_of_the_batch(name: str, family: str) -> None:
    policy = policy_of(family)
    asked = requests_of(policy, MIXED, **CUT)
    # siblings that are cut otherwise, not at all, or greedy, in one batch
    how = [asked[0].sampling, Sampling(24), Sampling(24, 0.7, top_k=3), Sampling(24, 0.0, top_k=3)]
    asked = [replace(request, sampling=how[n % 4]) for n, request in enumerate(asked)]
    for request, completion in zip(asked, answers(ENGINES[name](policy), asked), strict=True):
        [alone] = answers(ENGINES[name](policy), [request])
        assert (alone.token_ids, alone.kept) == (completion.token_ids, completion.kept)
        assert (completion.kept is not None) == request.sampling.truncates
        assert alone.sampler_logp == pytest.approx(completion.sampler_logp, abs=1e-5)


def test_what_isn_t_truncated_is_as_it_was(engine: Engine, policy: Policy) -> None:
    plain = requests_of(policy, MIXED)
    nothing = requests_of(policy, MIXED, top_k=0, top_p=1.0, min_p=0.0)
    assert answers(engine, plain) == answers(engine, nothing)
    assert all(completion.kept is None for completion in answers(engine, plain))


def test_an_engine_follows_its_learner(fp32: Policy) -> None:
    for make in ENGINES.values():
        engine = make(fp32)
        engine.load(Weights(fp32.version, fp32))
        [completion] = answers(engine, requests_of(fp32, [("go", 1)]))
        assert completion.policy_version == fp32.version
        with pytest.raises(CoveyError, match=r"handed version 7 of the same policy"):
            engine.load(Weights(7, fp32))
        with pytest.raises(CoveyError, match=r"of another policy"):
            engine.load(Weights(fp32.version, policy_of("gpt2")))


@pytest.mark.parametrize(
    ("prompt", "most", "message"),
    [
        ((), 4, "0 prompt tokens"),
        ((5,), 0, "0 new ones"),
        ((5,) * 500, 13, "exceed the model's context of 512"),
    ],
)
def test_a_request_that_leaves_no_room_is_refused(
    fp32: Policy, prompt: tuple[int, ...], most: int, message: str
) -> None:
    request = Request(prompt, Sampling(most), DrawKey(0, 0, "row 5", 0))
    for make in ENGINES.values():
        with pytest.raises(CoveyError, match=rf"problem 'row 5': .*{message}"):
            list(make(fp32).generate([request]))


# The local engine's slots and prefills: what only it has.


@pytest.fixture
def prefilled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The prompts that were prefilled, in order."""
    seen: list[tuple[int, ...]] = []
    admit: Callable[..., torch.Tensor] = Decoder.admit

    def noted(self: Decoder, prompts: Sequence[Sequence[int]], cells: int) -> torch.Tensor:
        seen.extend(tuple(prompt) for prompt in prompts)
        return admit(self, prompts, cells)

    monkeypatch.setattr(Decoder, "admit", noted)
    return seen


@cache
def one_by_one(temperature: float) -> tuple[list[Request], list[Completion]]:
    policy = policy_of("llama")
    groups = (*MIXED, ("a group larger than the slots", 9), ("1+2=", 4))
    asked = requests_of(policy, groups, temperature, most=16)
    return asked, [answers(ENGINES["local"](policy), [request])[0] for request in asked]


@pytest.mark.parametrize("temperature", [1.0, 0.0])
@pytest.mark.parametrize("slots", [1, 3, 7, 256])
def test_any_number_of_slots_gives_the_same_completions(
    fp32: Policy, prefilled: list[tuple[int, ...]], slots: int, temperature: float
) -> None:
    asked, want = one_by_one(temperature)
    prefilled.clear()
    have = answers(ENGINES["local"](fp32, slots=slots), asked)
    assert tokens(have) == tokens(want)
    for mine, alone in zip(have, want, strict=True):
        assert mine.sampler_logp == pytest.approx(alone.sampler_logp, abs=1e-5)
    # 24 requests, 6 prompts: each prefilled once, however few slots there are
    assert Counter(prefilled) == Counter({request.prompt_ids: 1 for request in asked})


def test_siblings_share_their_prefill(fp32: Policy, prefilled: list[tuple[int, ...]]) -> None:
    [prompt] = {request.prompt_ids for request in requests_of(fp32, [("go", 16)])}
    answers(ENGINES["local"](fp32), requests_of(fp32, [("go", 16)]))
    assert prefilled == [prompt]


@pytest.mark.parametrize("slots", [1, 3, 7])
def test_no_more_than_the_slots_run_at_once(
    fp32: Policy, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    widths: list[int] = []
    step: Callable[..., torch.Tensor] = Decoder.step

    def noted(self: Decoder, rows: torch.Tensor, columns: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        widths.append(len(rows))
        cells = list(zip(rows.tolist(), columns.tolist(), strict=True))
        assert len(set(cells)) == len(cells)
        return step(self, rows, columns, ids)

    monkeypatch.setattr(Decoder, "step", noted)
    groups = [(f"{n}+{n}=", count) for n, count in enumerate((slots + 2, 1, 3, 5, slots, 4, 9))]
    answers(ENGINES["local"](fp32, slots=slots), requests_of(fp32, groups, most=9))
    assert max(widths) == slots


def test_an_engine_without_slots_is_refused(fp32: Policy) -> None:
    with pytest.raises(CoveyError, match="at least one slot, not 0"):
        ENGINES["local"](fp32, slots=0)
