"""Faults planted in real runs of a tiny model: each is caught in the step it shows in, with a diagnosis,
after the evidence is on disk; clean runs alarm nobody, and watching changes nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import covey.build.assemble
import covey.engines.local
import covey.models.policy
import covey.train.learner
from covey.build import train
from covey.build.resume import resume
from covey.config import load, parse
from covey.engines import ENGINES, LocalEngine
from covey.models import Policy
from covey.models.chat import ChatFormat
from covey.models.tiny import END
from covey.records import RunReader
from covey.sentinels import SENTINELS, Stopped
from covey.types import Completion, CoveyError, Episode, Request, Score, Weights
from covey.view.progress import Progress

ROOT = Path(__file__).resolve().parents[2]
BATCH = 16  # 4 problems × 4 completions

Answer = tuple[int, Completion]
Row = dict[str, Any]


class Letters:
    """The share of digits in an answer: every group of a random model has a signal."""

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [Score(sum(c.isdigit() for c in e.text) / max(len(e.text), 1)) for e in episodes]


class Said(Progress):
    """Keeps what a user is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str, *, error: bool = False) -> None:
        self.lines.append(text)


def recipe_values(dtype: str = "float32", steps: int = 2, **sentinels: Any) -> dict[str, Any]:
    return {
        "steps": steps,
        "threads": 1,
        "model": {"config": {"hidden_size": 32, "kv_heads": 2, "heads": 4}, "dtype": dtype},
        "task": {"name": "arithmetic", "low": 0, "high": 9, "prompt": "{a}{op}{b}="},
        "rollout": {"problems_per_step": 4, "group_size": 4, "max_new_tokens": 8, "refills": 0},
        "train": {"learning_rate": 3e-3},
        "eval": {"problems": 1, "samples": 1},
        "sentinels": sentinels,
    }


def run(folder: Path, values: Mapping[str, Any], reward: Any = None) -> Said:
    view = Said()
    train(parse(values), folder, view=view, reward=reward or Letters())
    return view


def stopped(folder: Path, values: Mapping[str, Any], reward: Any = None) -> str:
    """The message a run was stopped with; its finding is in the record, as the last event."""
    with pytest.raises(Stopped) as error:
        run(folder, values, reward)
    reports = error.value.reports
    last = RunReader(folder).events()[-len(reports) :]
    assert [(e["kind"], e["sentinel"], e["what"], e["evidence"]) for e in last] == [
        ("sentinel", r.sentinel, r.finding.what, r.finding.evidence) for r in reports
    ]
    assert RunReader(folder).attempts()[-1]["exit"].startswith("Stopped: stopped in step")
    return str(error.value)


def findings(folder: Path) -> list[Row]:
    return [e for e in RunReader(folder).events() if e["kind"] == "sentinel"]


def recorded(folder: Path) -> tuple[list[int], list[int]]:
    """The steps whose rollouts and whose metrics are on disk."""
    reader = RunReader(folder)
    return reader.steps(), [row["step"] for row in reader.metrics()]


def diagnosed(message: str, sentinel: str, *shown: str, step: int = 0) -> None:
    place = f"step {step + 1} (rollouts/{step:06d}.jsonl)"
    assert message.startswith(f"stopped in {place} by the sentinel {sentinel!r}: ")
    for part in ("evidence", "likely cause", "what to do", f"docs/sentinels/{sentinel}.md", *shown):
        assert part in message


def change_loss(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, Any], Any]) -> None:
    """Let ``change`` (batch, token loss) stand in for what the algorithm returned."""
    right = covey.train.learner.token_loss
    monkeypatch.setattr(
        covey.train.learner, "token_loss", lambda algorithm, batch: change(batch, right(algorithm, batch))
    )


# clean runs


@pytest.mark.parametrize("seed", range(5))
def test_a_clean_run_alarms_nobody(tmp_path: Path, seed: int) -> None:
    recipe = load(ROOT / "recipes" / "tiny.toml", [f"--seed={seed}", "--eval.problems=1", "--eval.samples=1"])
    train(recipe, tmp_path / "run")
    assert findings(tmp_path / "run") == []


@pytest.mark.parametrize("seed", range(2))
def test_a_clean_run_in_bf16_alarms_nobody(tmp_path: Path, seed: int) -> None:
    run(tmp_path / "run", {**recipe_values("bfloat16", steps=4), "seed": seed})
    assert findings(tmp_path / "run") == []


def test_the_record_says_who_is_on_guard(tmp_path: Path) -> None:
    run(tmp_path / "run", recipe_values(steps=1, entropy={"level": "stop", "floor": 0.001}, ratio="off"))
    manifest = RunReader(tmp_path / "run").manifest()["sentinels"]
    assert list(manifest) == list(SENTINELS)
    assert manifest["entropy"] == {"level": "stop", "floor": 0.001, "rise": 3.0}
    assert manifest["ratio"] == {"level": "off"}
    (event,) = (e for e in RunReader(tmp_path / "run").events() if e["kind"] == "sentinels")
    assert event["levels"] == {name: entry["level"] for name, entry in manifest.items()}
    assert event["blind"] == {}


def test_watching_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path / "watched", recipe_values())
    run(tmp_path / "unwatched", recipe_values(**dict.fromkeys(SENTINELS, "off")))
    files = ["metrics.jsonl", "rollouts/000000.jsonl", "rollouts/000001.jsonl", "model/model.safetensors"]
    for name in files:
        assert (tmp_path / "watched" / name).read_bytes() == (tmp_path / "unwatched" / name).read_bytes(), (
            name
        )


def test_a_wrong_name_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match=r"no sentinel 'entropyy'; did you mean 'entropy'\?"):
        run(tmp_path / "run", recipe_values(entropyy="off"))
    assert not (tmp_path / "run").exists()


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
    diagnosed(message, "micro_batch", "in one micro-batch and in two", "more than 1e-05")
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
    right = covey.train.learner.prepare

    def again(*arguments: Any, **more: Any) -> list[Any]:
        return [replace(s, reply=(s.reply[0], 7, *s.reply[2:])) for s in right(*arguments, **more)]

    monkeypatch.setattr(covey.train.learner, "prepare", again)
    message = stopped(tmp_path / "run", recipe_values())
    diagnosed(message, "tokens", "in 1", "samples", "token 1 is 7, sampled was ")
    assert recorded(tmp_path / "run") == ([0], [0])


def test_a_sample_lost_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = covey.train.learner.prepare
    monkeypatch.setattr(covey.train.learner, "prepare", lambda *args, **more: right(*args, **more)[1:])
    diagnosed(stopped(tmp_path / "run", recipe_values()), "tokens", "group 0 sample 0 was left out")


def test_an_old_policy_that_is_not_the_one_that_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = covey.train.learner.token_loss

    def stale(algorithm: Any, batch: Any) -> Any:
        return right(algorithm, replace(batch, old_logp=batch.logp.detach() - 0.3))

    monkeypatch.setattr(covey.train.learner, "token_loss", stale)
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
    update_right = covey.train.learner.PolicyLearner.update
    monkeypatch.setattr("covey.build.run.assemble.policy_of", loaded)
    monkeypatch.setattr(covey.train.learner.PolicyLearner, "update", update)


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


# going on


def test_a_resumed_run_remembers(tmp_path: Path) -> None:
    """Two steps of 16 completions, then a third: 48 in a row, seen by no attempt alone."""

    def constant(episodes: Sequence[Episode]) -> list[Score]:
        return [Score(0.0) for _ in episodes]

    values = recipe_values(steps=2, constant_reward={"level": "stop", "completions": 3 * BATCH})
    run(tmp_path / "run", values, constant)
    with pytest.raises(Stopped, match="the last 48 completions all have the reward 0"):
        resume(tmp_path / "run", steps=3, reward=constant)


def test_a_stopped_run_goes_on_when_its_sentinel_is_told_to_warn(tmp_path: Path) -> None:
    def constant(episodes: Sequence[Episode]) -> list[Score]:
        return [Score(0.0) for _ in episodes]

    values = recipe_values(steps=2, constant_reward={"level": "stop", "completions": BATCH})
    stopped(tmp_path / "run", values, constant)
    resume(tmp_path / "run", overrides=["--sentinels.constant_reward", "warn"], reward=constant)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()[1:]]
    levels = [e["levels"]["constant_reward"] for e in events if e["kind"] == "sentinels"]
    assert levels == ["stop", "warn"]
    assert recorded(tmp_path / "run") == ([0, 1], [0, 1])
