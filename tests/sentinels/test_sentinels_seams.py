"""What sentinels are told by rooms that know tensors: fingerprints, the split of a gradient, the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from covey.build import assemble
from covey.build.watch import setting_of
from covey.config import parse
from covey.engines import LocalEngine
from covey.learn.split import split_difference
from covey.models import Policy, load_policy
from covey.models.fingerprint import digest, digest_rounded
from covey.models.weights import computed_with, to_compute_with
from covey.protocols import Engine, Fingerprinted
from covey.types import Completion, Episode, Group, Problem, Score, StopReason, Turn

TINY = {"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2}
DTYPES = ["float32", "bfloat16"]


def tiny(dtype: str = "float32", **changes: Any) -> Policy:
    return load_policy({**TINY, **changes}, dtype=dtype)


# fingerprints


@pytest.mark.parametrize("shape", [(), (1,), (7, 3), ((1 << 18) + 5,), (3, 1 << 17)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_rounded_digest_is_that_of_the_rounded_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert digest_rounded(tensor, dtype) == digest(tensor.to(dtype))


def test_a_rounded_digest_follows_the_values_not_the_layout_in_memory() -> None:
    tensor = torch.arange(12.0).view(3, 4)
    assert digest_rounded(tensor.T, torch.bfloat16) == digest(tensor.T.contiguous().to(torch.bfloat16))
    assert digest_rounded(tensor.T, torch.bfloat16) != digest_rounded(tensor, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_fresh_policy_computes_with_what_it_should(dtype: str, family: str, tied: bool) -> None:
    policy = tiny(dtype, family=family, tie_embeddings=tied)
    found = computed_with(policy)
    assert found == to_compute_with(policy)
    assert ("lm_head.weight" in policy.tied) is tied
    assert "lm_head.weight" in found  # under its own name, tied or not
    assert found.keys() == policy.master.keys() | policy.tied.keys()


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_changed_number_in_any_tensor_shows_in_its_names_alone(dtype: str) -> None:
    policy = tiny(dtype)
    due = to_compute_with(policy)
    parameters = dict(policy.parameters())
    for name, parameter in parameters.items():
        master = policy.master[name].detach().clone()
        with torch.no_grad():
            parameter.view(-1)[-1] += 1
        if dtype == "float32":  # there the module's tensors are the masters themselves
            wrong = {n for n, d in computed_with(policy).items() if d != due[n]}
        else:
            wrong = {n for n, d in computed_with(policy).items() if d != to_compute_with(policy)[n]}
        assert wrong == {name} | {other for other, same in policy.tied.items() if same == name}
        with torch.no_grad():
            parameter.copy_(master)
    assert computed_with(policy) == due


def test_an_output_head_that_is_no_longer_tied_shows() -> None:
    policy = tiny()
    head = policy.head
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    assert computed_with(policy) == to_compute_with(policy)  # equal so far, if for another reason
    with torch.no_grad():
        head.weight[0, 0] += 1
    wrong = {n for n, d in computed_with(policy).items() if d != to_compute_with(policy)[n]}
    assert wrong == {"lm_head.weight"}


# the split


def parts_of(dtype: str = "float32", **train: float) -> tuple[Policy, Any]:
    recipe = parse(
        {
            "model": {"config": TINY, "dtype": dtype},
            "task": {"name": "arithmetic", "low": 0, "high": 9},
            "rollout": {"problems_per_step": 2, "group_size": 4, "max_new_tokens": 6},
            "train": train,
        }
    )
    parts = assemble.prepare(recipe)
    policy = assemble.policy_of(recipe)
    return policy, assemble.learner_of(parts, policy)


def rollout(policy: Policy, values: Sequence[float] = (0.0, 1.0, 0.5, 0.0)) -> list[Group]:
    """Two groups of four answers of unequal length."""
    groups = []
    for number in range(2):
        problem = Problem(f"p{number}", ({"role": "user", "content": f"{number}+2="},))
        prompt = policy.chat.prompt(problem.messages)
        episodes = []
        for sample in range(4):
            ids = tuple(5 + (7 * i + 3 * sample + number) % 90 for i in range(3 + sample))
            done = Completion(ids, (-4.5,) * len(ids), StopReason.LENGTH, 0)
            episodes.append(Episode(problem, sample, (Turn(prompt, done),)))
        groups.append(Group(problem, tuple(episodes), tuple(Score(v) for v in values)))
    return groups


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("bfloat16", 0.02)])
def test_the_gradient_of_a_split_is_the_gradient_and_nothing_is_left_behind(dtype: str, bound: float) -> None:
    policy, learner = parts_of(dtype)
    before = {name: master.detach().clone() for name, master in policy.master.items()}
    difference = split_difference(learner, rollout(policy))
    assert difference is not None
    assert 0 <= difference < bound
    assert all(torch.equal(before[n], m) and m.grad is None for n, m in policy.master.items())
    assert all(p.grad is None and p.requires_grad for _, p in policy.parameters())
    assert policy.version == 0


def test_a_budget_for_one_sequence_or_no_signal_leaves_nothing_to_compare() -> None:
    policy, learner = parts_of()
    assert split_difference(learner, rollout(policy, values=(1.0,) * 4)) is None
    learner.budget = 1
    assert split_difference(learner, rollout(policy)) is None


def test_what_is_wrong_in_the_middle_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, learner = parts_of()
    right = learner.backward

    def failing(part: Any) -> Any:
        right(part)
        raise KeyboardInterrupt

    monkeypatch.setattr(learner, "backward", failing)
    with pytest.raises(KeyboardInterrupt):
        split_difference(learner, rollout(policy))
    assert all(m.grad is None for m in policy.master.values())
    assert all(p.requires_grad for _, p in policy.parameters())


# the template


def test_the_marks_of_a_template_are_its_special_tokens() -> None:
    policy = tiny()
    assert set(policy.chat.marks().values()) == {"<|start|>", "<|end|>"}
    assert all(policy.chat.raw([token]) == text for token, text in policy.chat.marks().items())


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{% for m in messages %}{{ m['content'] }}{% endfor %}",  # no special tokens in it
        "{{ raise_exception('only with a system message') }}",
    ],
)
def test_some_models_leave_no_marks(template: str | None) -> None:
    policy = tiny()
    policy.tokenizer.chat_template = template
    assert policy.chat.marks() == {}


def test_a_token_that_plain_text_begins_with_too_is_no_mark() -> None:
    policy = tiny()

    class WithStart:
        """A tokenizer that begins every text with ``<|start|>``, as many do."""

        def __init__(self, tokenizer: Any) -> None:
            self.tokenizer = tokenizer

        def __getattr__(self, name: str) -> Any:
            return getattr(self.tokenizer, name)

        def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
            start = self.tokenizer.convert_tokens_to_ids("<|start|>")
            return {"input_ids": [start, *self.tokenizer(text, **options)["input_ids"]]}

    policy.chat.tokenizer = WithStart(policy.tokenizer)
    assert set(policy.chat.marks().values()) == {"<|end|>"}


# what a run tells its sentinels


def test_a_setting_says_what_the_run_is_like() -> None:
    policy, learner = parts_of("bfloat16")
    recipe = parse({"model": {"config": TINY}, "task": "arithmetic", "rollout": {"temperature": 0.5}})
    setting = setting_of(recipe, learner, LocalEngine(policy))
    assert (setting.dtype, setting.temperature, setting.anchor) == ("bfloat16", 0.5, "learner")
    assert setting.end_tokens == dict.fromkeys(policy.end_ids, "<|end|>")
    assert set(setting.template_tokens.values()) == {"<|start|>", "<|end|>"}
    assert setting.engine_weights is not None
    assert setting.learner_weights is not None
    assert setting.engine_weights() == setting.learner_weights()


def test_a_ratio_to_the_sampler_is_known_as_one() -> None:
    policy, learner = parts_of()
    recipe = parse({"model": {"config": TINY}, "task": "arithmetic"})
    learner.algorithm = learner.algorithm.replace(ratio={"name": "token", "against": "sampler"})
    assert setting_of(recipe, learner, LocalEngine(policy)).anchor == "sampler"


def test_an_engine_without_a_fingerprint_is_an_engine() -> None:
    class Foreign:
        def generate(self, requests: Any) -> Any: ...

        def load(self, weights: Any) -> None: ...

    policy, learner = parts_of()
    recipe = parse({"model": {"config": TINY}, "task": "arithmetic"})
    foreign = Foreign()
    assert isinstance(foreign, Engine)
    assert not isinstance(foreign, Fingerprinted)
    assert setting_of(recipe, learner, foreign).engine_weights is None
    assert isinstance(LocalEngine(policy), Fingerprinted)
    assert isinstance(learner, Fingerprinted)


def test_a_group_lost_to_an_exclusion_is_no_part_of_the_check() -> None:
    policy, learner = parts_of()
    groups = [replace(g, excluded="zero variance") for g in rollout(policy)]
    assert split_difference(learner, groups) is None
