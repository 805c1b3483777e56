"""`covey.train` from Python, and a whole run on every family of models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import covey
from covey import sandbox
from covey.config import load
from covey.models import load_policy, save_policy
from covey.records import RunReader
from covey.types import CoveyError, Episode, Problem, Score

ROOT = Path(__file__).parents[2]

SMALL: dict[str, Any] = {
    "steps": 2,
    "rollout": {"problems_per_step": 2, "group_size": 4, "max_new_tokens": 6, "refills": 0},
    "train": {"learning_rate": 1e-3},
    "eval": {"problems": 2, "samples": 2},
    "view": "quiet",
}
TINY = {"config": {"hidden_size": 16, "intermediate_size": 16}, "dtype": "float32"}


def digits(completions: list[list[dict[str, str]]], **columns: Any) -> list[float]:
    """TRL's signature, on TRL's lists of messages: the share of a reply that is digits."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(c.isdigit() for c in text) / max(len(text), 1) for text in texts]


def longer(completions: list[str], a: list[int], **columns: Any) -> list[float]:
    assert all(isinstance(value, int) for value in a)  # a column of the task's rows
    return [float(len(text)) for text in completions]


def test_it_is_said_that_an_object_has_no_time_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "is an object of this program: it is called here, without a time limit"
    few = {**SMALL, "steps": 1, "view": "plain"}
    covey.train(model=TINY, task="arithmetic", reward=digits, run=tmp_path / "object", **few)
    assert f"the reward {__name__}:digits {said}" in capsys.readouterr().out
    covey.train(model=TINY, task="arithmetic", reward=f"{__file__}:digits", run=tmp_path / "named", **few)
    assert said not in capsys.readouterr().out


def test_it_is_said_once_where_programs_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = {"answer": "x", "entry_point": "f", "cases": [{"input": [1], "output": 1}]}
    rows = [json.dumps({"prompt": f"{n}?", **case}) for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    task = {"name": "jsonl", "path": str(tmp_path / "rows.jsonl"), "heldout": 0.3}
    parts = [{"name": "code"}, {"name": "code", "label": "again", "oracle": True}]
    few = {**SMALL, "steps": 1, "view": "plain"}
    reward = {"name": "combine", "parts": parts}
    covey.train(model=TINY, task=task, reward=reward, run=tmp_path / "run", **few)
    assert capsys.readouterr().out.count(sandbox.describe()) == 1


def test_a_function_and_sections_are_all_it_takes(tmp_path: Path) -> None:
    result = covey.train(model=TINY, task="arithmetic", reward=digits, run=tmp_path / "run", **SMALL)
    assert result.run == tmp_path / "run"
    assert result.summary["steps"] == 2
    reader = RunReader(result.run)
    assert reader.manifest()["recipe"]["reward"] == {"name": f"{__name__}:digits"}
    assert [row["step"] for row in reader.metrics()] == [0, 1]
    assert any(row["trained"] for row in reader.metrics())
    assert AutoModelForCausalLM.from_pretrained(result.model).config.hidden_size == 16


def test_a_second_call_in_the_same_process_is_the_same_run(tmp_path: Path) -> None:
    """Nothing is left behind that the next run could trip over, and nothing is drawn from a shared source."""
    results = []
    for name in ("one", "other"):
        torch.manual_seed(len(results))  # a caller's own seed is nothing to a run
        results.append(
            covey.train(model=TINY, task="arithmetic", reward=longer, run=tmp_path / name, **SMALL)
        )
    for file in ("metrics.jsonl", "model/model.safetensors", "rollouts/000001.jsonl"):
        one, other = ((result.run / file).read_bytes() for result in results)
        assert one == other
    third = covey.train(model=TINY, task="arithmetic", reward=longer, run=tmp_path / "third", seed=1, **SMALL)
    assert (third.run / "metrics.jsonl").read_bytes() != (results[0].run / "metrics.jsonl").read_bytes()


def test_objects_stand_where_names_could(tmp_path: Path) -> None:
    class Alphabet:
        def problems(self, split: str) -> Sequence[Problem]:
            letters = "abcdef" if split == "train" else "xyz"
            return [Problem(c, ({"role": "user", "content": f"say {c}"},), answer=c) for c in letters]

    class Says:
        def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
            return [Score(episode.text.count(episode.problem.answer or "")) for episode in episodes]

    result = covey.train(model=TINY, task=Alphabet(), reward=Says(), run=tmp_path / "run", **SMALL)
    recipe = RunReader(result.run).manifest()["recipe"]
    assert recipe["task"]["name"].endswith("Alphabet")
    assert recipe["reward"]["name"].endswith("Says")
    problems = {group.problem.id for group in RunReader(result.run).groups(0)}
    assert problems <= set("abcdef")


def test_a_recipe_is_the_ground_and_keywords_stand_over_it(tmp_path: Path) -> None:
    path = ROOT / "recipes" / "tiny.toml"
    for recipe, name in ((path, "file"), (str(path), "text"), (load(path), "object")):
        task = {"name": "arithmetic", "low": 0, "high": 4}
        result = covey.train(recipe, run=tmp_path / name, model=TINY, task=task, **SMALL)
        made = RunReader(result.run).manifest()["recipe"]
        assert made["task"] == task
        assert made["rollout"]["group_size"] == 4
        assert made["train"]["warmup_steps"] == 1  # the recipe's, kept beside the keyword's learning rate
        assert made["train"]["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"stepz": 3}, "covey.train: unknown key 'stepz'; did you mean 'steps'?"),
        ({"rollout": {"group_size": 1}}, "covey.train: 'rollout.group_size': input should be greater"),
        ({"view": "loud"}, "'loud'"),
        ({"model": "./nowhere"}, "no model at './nowhere'"),
        ({"task": "arithmetics"}, "unknown task 'arithmetics'"),
        ({"task": None}, "covey.train: 'task' is missing"),
    ],
)
def test_a_mistake_is_the_same_error_as_on_the_command_line(
    tmp_path: Path, keywords: dict[str, Any], message: str
) -> None:
    given = {"model": TINY, "task": "arithmetic", **SMALL, **keywords}
    with pytest.raises(CoveyError) as caught:
        covey.train(run=tmp_path / "run", **given)
    assert message in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma", "gpt2", "mistral"])
def test_two_steps_on_a_folder_of_any_family(tmp_path: Path, family: str, dtype: str) -> None:
    """A model folder as anyone may have it, trained and left as a folder that `transformers` reads."""
    folder = tmp_path / "given"
    given = load_policy({"family": family, **TINY["config"]}, dtype="float32")
    save_policy(given, folder)
    result = covey.train(
        model={"name": str(folder), "dtype": dtype},
        task="arithmetic",
        reward=digits,
        run=tmp_path / "run",
        **SMALL,
    )
    rows = RunReader(result.run).metrics()
    assert [row["step"] for row in rows] == [0, 1]
    for row in rows:
        assert row["trained"]
        assert row["ratio_min"] == row["ratio_max"] == 1.0
        assert row["mismatch_abs"] < (1e-5 if dtype == "float32" else 1e-2)
    after = dict(AutoModelForCausalLM.from_pretrained(result.model).named_parameters())
    assert {p.dtype for p in after.values()} == {torch.float32}
    assert any(not torch.equal(after[name], master) for name, master in given.master.items())


def test_a_reference_policy_is_loaded_where_the_algorithm_asks_for_one(tmp_path: Path) -> None:
    result = covey.train(
        model=TINY,
        task="arithmetic",
        reward=digits,
        run=tmp_path / "run",
        algorithm={"preset": "grpo"},
        **SMALL,
    )
    first, second = RunReader(result.run).metrics()
    assert first["kl_ref"] == 0.0
    assert second["kl_ref"] > 0
