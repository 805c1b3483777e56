"""Faults planted in real runs of a tiny model: each is caught in the step it shows in, with a diagnosis,
after the evidence is on disk."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import covey.build.assemble
import covey.engines.local
import covey.learn.batch
import covey.learn.learner
import covey.models.policy
from covey.engines import ENGINES, LocalEngine
from covey.models import Policy
from covey.models.chat import ChatFormat
from covey.models.tiny import END
from covey.types import Episode, Request, Score, Weights
from sentinels_run import (
    BATCH,
    Answer,
    change_loss,
    diagnosed,
    findings,
    recipe_values,
    recorded,
    run,
    stopped,
)

# weights


class Copying(LocalEngine):
    """An engine with a copy of the weights, which `load` brings up to date, all but those in ``stale``."""

    stale: tuple[str, ...] = ()

    def __init__(self, policy: Policy, *, slots: int = 256) -> None:
        super().__init__(policy, slots=slots)
        self.theirs = policy
        module = copy.deepcopy(policy.module)
        self.policy = Policy(module, policy.tokenizer, policy.chat, dict(module.named_parameters()))
        self.untie()

    def untie(self) -> None: ...

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        theirs = dict(self.theirs.module.named_parameters(remove_duplicate=False))
        for name, parameter in self.policy.module.named_parameters(remove_duplicate=False):
            if name not in self.stale:
                parameter.copy_(theirs[name])
        self.policy.version = weights.version


class StaleLayer(Copying):
    stale = ("model.layers.1.mlp.up_proj.weight",)


class StaleHead(Copying):
    """The output head was tied to the embedding and isn't any more."""

    stale = ("lm_head.weight",)

    def untie(self) -> None:
        head = self.policy.head
        head.weight = torch.nn.Parameter(head.weight.detach().clone())


class Late(LocalEngine):
    """Answers from the version before."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Answer]:
        for index, done in super().generate(requests):
            yield index, replace(done, policy_version=max(done.policy_version - 1, 0))


def test_an_engine_with_a_right_copy_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "local", Copying)
    run(tmp_path / "run", recipe_values())
    assert findings(tmp_path / "run") == []


@pytest.mark.parametrize("engine", [StaleLayer, StaleHead])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_tensor_the_engine_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: type[Copying], dtype: str
) -> None:
    monkeypatch.setitem(ENGINES, "local", engine)
    message = stopped(tmp_path / "run", recipe_values(dtype))
    diagnosed(message, "weights", "1 of the ", engine.stale[0], f"{dtype}[")
    assert recorded(tmp_path / "run") == ([0], [0])  # the update after which they differ is on disk


def test_answers_of_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "local", Late)
    message = stopped(tmp_path / "run", recipe_values())
    diagnosed(message, "weights", "handed version 1; completions say they come from version 0", step=1)
    assert recorded(tmp_path / "run") == ([0, 1], [0])


# what is sampled


def test_a_prompt_without_its_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(self: ChatFormat, messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        return tuple(self.tokenizer(messages[-1]["content"])["input_ids"])

    monkeypatch.setattr(ChatFormat, "prompt", bare)
    message = stopped(tmp_path / "run", recipe_values())
    diagnosed(message, "template", "4 of 4 prompts", "<|start|>")
    assert recorded(tmp_path / "run") == ([0], [])  # nothing was learned from them


def test_group_members_that_share_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = covey.engines.local.uniforms
    monkeypatch.setattr(
        covey.engines.local, "uniforms", lambda key, count: right(replace(key, sample=0), count)
    )
    message = stopped(tmp_path / "run", recipe_values())
    diagnosed(message, "identical", "4 of the 4 answers", "odds of such a step are 1 in 10^")
    assert recorded(tmp_path / "run") == ([0], [])


def test_a_grader_that_fails_too_often(tmp_path: Path) -> None:
    def flaky(episodes: Sequence[Episode]) -> list[Score]:
        return [Score(1.0) if e.sample % 2 else Score(None, error="no verdict within 5 s") for e in episodes]

    message = stopped(tmp_path / "run", recipe_values(), flaky)
    diagnosed(message, "unscored", "8 of 16 completions", "budget of 20%", "8 × 'no verdict within 5 s'")
    assert recorded(tmp_path / "run") == ([0], [])


def test_an_end_token_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covey.models.policy, "end_ids", lambda module, tokenizer: set())
    message = stopped(tmp_path / "run", recipe_values(end_token={"completions": BATCH}))
    diagnosed(message, "end_token", "the last 16 were all cut off", "at 8 tokens; end tokens are none")


def test_a_constant_reward_warns_once_and_stops_where_it_is_told_to(tmp_path: Path) -> None:
    def constant(episodes: Sequence[Episode]) -> list[Score]:
        return [Score(0.0) for _ in episodes]

    patience = {"completions": BATCH}
    said = run(tmp_path / "warned", recipe_values(steps=3, constant_reward=patience), constant)
    assert [(e["sentinel"], e["level"], e["step"]) for e in findings(tmp_path / "warned")] == [
        ("constant_reward", "warn", 0)
    ]
    assert len([line for line in said.lines if "all have the reward 0" in line]) == 1
    strict = recipe_values(constant_reward={"level": "stop", **patience})
    diagnosed(stopped(tmp_path / "stopped", strict, constant), "constant_reward", "nothing is learned")


# what is learned


def test_a_loss_divided_by_its_micro_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_loss(monkeypatch, lambda batch, right: replace(right, loss=right.loss / len(batch.logp)))
    message = stopped(tmp_path / "run", recipe_values())
    diagnosed(message, "micro_batch", "in one micro-batch and in two", "more than 2e-04")
    assert recorded(tmp_path / "run") == ([0], [])


def test_packed_sequences_that_see_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply's tokens count on from those of the sibling packed before it."""
    right = Policy.hidden

    def shifted(self: Policy, token_ids: Any, layout: Any, positions: Any) -> Any:
        if torch.is_grad_enabled():  # the learner's pass
            positions = torch.arange(len(positions))
        return right(self, token_ids, layout, positions)

    monkeypatch.setattr(Policy, "hidden", shifted)
    diagnosed(stopped(tmp_path / "run", recipe_values()), "micro_batch", "gradient changes")


def test_text_that_was_tokenized_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = covey.learn.learner.prepare

    def again(*arguments: Any, **more: Any) -> list[Any]:
        return [replace(s, reply=(s.reply[0], 7, *s.reply[2:])) for s in right(*arguments, **more)]

    monkeypatch.setattr(covey.learn.learner, "prepare", again)
    message = stopped(tmp_path / "run", recipe_values())
    diagnosed(message, "tokens", "in 1", "samples", "token 1 is 7, sampled was ")
    assert recorded(tmp_path / "run") == ([0], [0])


def test_a_sample_lost_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = covey.learn.learner.prepare
    monkeypatch.setattr(covey.learn.learner, "prepare", lambda *args, **more: right(*args, **more)[1:])
    diagnosed(stopped(tmp_path / "run", recipe_values()), "tokens", "group 0 sample 0 was left out")


def test_an_old_policy_that_is_not_the_one_that_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = covey.learn.learner.token_loss

    def stale(algorithm: Any, batch: Any) -> Any:
        return right(algorithm, replace(batch, old_logp=batch.logp.detach() - 0.3))

    monkeypatch.setattr(covey.learn.learner, "token_loss", stale)
    message = stopped(tmp_path / "run", recipe_values())
    diagnosed(message, "ratio", "mean 1.349859", "clip_high")  # exp(0.3), and the upper bound is 1.28


class Shifted(LocalEngine):
    """Reports log-probs that are a tenth of a nat off."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Answer]:
        for index, done in super().generate(requests):
            yield index, replace(done, sampler_logp=tuple(x - 0.1 for x in done.sampler_logp or ()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_log_probs_that_are_not_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setitem(ENGINES, "local", Shifted)
    message = stopped(tmp_path / "run", recipe_values(dtype))
    diagnosed(message, "mismatch", "mean gap 1.00e-01 nats", "worst in group")


def test_a_temperature_that_only_the_engine_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = covey.build.assemble.learner_of

    def untempered(*arguments: Any) -> Any:
        learner = right(*arguments)
        learner.temperature = 1.0
        return learner

    monkeypatch.setattr("covey.build.run.assemble.learner_of", untempered)
    values = recipe_values()
    values["rollout"]["temperature"] = 0.5
    diagnosed(stopped(tmp_path / "run", values), "mismatch", "another temperature")


def test_a_truncation_that_only_the_engine_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covey.learn.batch.MicroBatch, "_kept", lambda part, chosen: None)
    values = recipe_values()
    values["rollout"] |= {"top_k": 40, "top_p": 0.9}
    diagnosed(stopped(tmp_path / "run", values), "mismatch", "top-p")


def test_a_gradient_that_is_not_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_loss(monkeypatch, lambda batch, right: replace(right, loss=right.loss * float("nan")))
    kept: list[Policy] = []
    right = covey.build.assemble.policy_of

    def keep(recipe: Any) -> Policy:
        kept.append(right(recipe))
        before.update({n: m.detach().clone() for n, m in kept[0].master.items()})
        return kept[0]

    before: dict[str, torch.Tensor] = {}
    monkeypatch.setattr("covey.build.run.assemble.policy_of", keep)
    message = stopped(tmp_path / "run", recipe_values(steps=5))
    diagnosed(message, "non_finite", "for 3 steps in a row", "loss nan", step=2)
    assert [(e["level"], e["step"]) for e in findings(tmp_path / "run")] == [("warn", 0), ("stop", 2)]
    assert recorded(tmp_path / "run") == ([0, 1, 2], [0, 1, 2])
    assert all(torch.equal(m, before[n]) for n, m in kept[0].master.items())


def test_a_loss_that_reaches_no_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_loss(monkeypatch, lambda batch, right: replace(right, loss=right.loss * 0))
    diagnosed(
        stopped(tmp_path / "run", recipe_values()), "zero_gradient", "samples have an advantage and a weight"
    )


# what becomes of the policy


def scale_logits(monkeypatch: pytest.MonkeyPatch, factors: Mapping[int, float]) -> None:
    """Multiply them after so many completed steps: a policy that freezes, or dissolves."""

    def scaled(policy: Policy, step: int) -> None:
        with torch.no_grad():
            policy.module.base_model.norm.weight *= factors.get(step, 1.0)

    def loaded(recipe: Any) -> Policy:
        policy = load_right(recipe)
        scaled(policy, 0)
        return policy

    def update(self: Any, step: int, groups: Any) -> Any:
        done = update_right(self, step, groups)
        scaled(self.policy, step + 1)
        return done

    load_right = covey.build.assemble.policy_of
    update_right = covey.learn.learner.PolicyLearner.update
    monkeypatch.setattr("covey.build.run.assemble.policy_of", loaded)
    monkeypatch.setattr(covey.learn.learner.PolicyLearner, "update", update)


def test_a_policy_that_freezes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scale_logits(monkeypatch, {1: 1e4})
    values = recipe_values(steps=3, entropy="stop")
    diagnosed(stopped(tmp_path / "run", values), "entropy", "has collapsed", step=1)


def test_a_policy_that_dissolves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_sample(episodes: Sequence[Episode]) -> list[Score]:
        return [Score(float(e.sample)) for e in episodes]

    scale_logits(monkeypatch, {0: 12.0, 3: 1 / 12})
    values = recipe_values(steps=5, entropy="stop")
    values["train"]["learning_rate"] = 1e-9
    diagnosed(stopped(tmp_path / "run", values, by_sample), "entropy", "is dissolving", step=3)


def test_a_policy_that_unlearns_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of all tokens end an answer, until from the fourth step on none does."""

    class Forgetful(LocalEngine):
        calls = 0

        def generate(self, requests: Sequence[Request]) -> Iterator[Answer]:
            self.calls += len(requests) == BATCH
            end = set(self.policy.tokenizer.convert_tokens_to_ids([END]))
            self.policy.end_ids = frozenset(end if self.calls > 3 else range(0, self.policy.vocabulary, 2))
            yield from super().generate(requests)

    monkeypatch.setitem(ENGINES, "local", Forgetful)
    message = stopped(tmp_path / "run", recipe_values(steps=5, length="stop", end_token="off"))
    diagnosed(message, "length", "completions have run away", step=3)
