"""The recipe: what may be written, what is meant by it, and what is said of a mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from covey.config import Recipe, load, parse
from covey.types import CoveyError

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"model": {"name": "smollm2-135m"}, "task": "arithmetic"}


def complaint(values: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(CoveyError) as caught:
        parse(values, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_recipes_are_valid_and_short(path: Path) -> None:
    recipe = load(path)
    assert recipe == Recipe.model_validate(recipe.model_dump(mode="json"))
    assert len(path.read_text().splitlines()) <= 40


def test_a_recipe_is_frozen() -> None:
    recipe = parse(SMALL)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.steps = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_not_said_has_its_default() -> None:
    recipe = parse(SMALL)
    assert (recipe.steps, recipe.rollout.group_size, recipe.reward.name) == (100, 8, "number")
    assert recipe.algorithm.preset == "modern"
    assert recipe.algorithm.changes == {}


def test_a_component_may_be_just_its_name() -> None:
    assert parse({**SMALL, "task": "jsonl"}).task == parse({**SMALL, "task": {"name": "jsonl"}}).task
    recipe = parse({**SMALL, "task": {"name": "jsonl", "path": "a.jsonl"}})
    assert recipe.task.params == {"path": "a.jsonl"}
    recipe = parse({**SMALL, "algorithm": {"kl": "k3", "advantage": {"name": "mean_std", "ddof": 0}}})
    assert recipe.algorithm.changes == {"kl": {"name": "k3"}, "advantage": {"name": "mean_std", "ddof": 0}}


# Mistakes in the file.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 3}, "unknown key 'step'; did you mean 'steps'?"),
        ({"rollout": {"groupsize": 4}}, "unknown key 'rollout.groupsize'; did you mean 'group_size'?"),
        (
            {"train": {"lerning_rate": 1e-5}},
            "unknown key 'train.lerning_rate'; did you mean 'learning_rate'?",
        ),
        ({"train": {"group_size": 4}}, "unknown key 'train.group_size'; known keys: learning_rate, "),
        ({"zzz": 1}, "unknown key 'zzz'; known keys: seed, steps, "),
    ],
)
def test_an_unknown_key_names_the_one_meant(values: dict[str, Any], message: str) -> None:
    assert complaint({**SMALL, **values}).startswith(f"the recipe: {message}")


@pytest.mark.parametrize(
    ("values", "key", "message"),
    [
        ({"steps": "many"}, "steps", "input should be a valid integer"),
        ({"steps": 0}, "steps", "input should be greater than or equal to 1, not 0"),
        ({"seed": 1.5}, "seed", "input should be a valid integer"),
        ({"rollout": {"temperature": 0}}, "rollout.temperature", "input should be greater than 0, not 0"),
        ({"rollout": 3}, "rollout", "input should be a valid dictionary"),
        ({"rollout": {"top_k": 1025}}, "rollout.top_k", "input should be less than or equal to 1024"),
        ({"rollout": {"top_p": 0}}, "rollout.top_p", "input should be greater than 0"),
        ({"rollout": {"top_p": 0.9}}, "rollout", "set top_k, to at most 1024"),
        ({"rollout": {"min_p": 0.1}}, "rollout", "set top_k, to at most 1024"),
        (
            {"train": {"learning_rate": float("inf")}},
            "train.learning_rate",
            "input should be a finite number",
        ),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate", "input should be "),
        ({"train": {"betas": [0.9, 1.0]}}, "train.betas.1", "input should be less than 1, not 1.0"),
        ({"model": {"name": "a/b", "dtype": "float16"}}, "model.dtype", "input should be 'auto', 'float32'"),
        ({"model": {}}, "model", "give either a name or a config"),
        ({"model": {"name": "a/b", "config": {}}}, "model", "give either a name or a config"),
        ({"task": {"low": 3}}, "task.name", "is missing"),
        ({"task": 7}, "task", "input should be a valid dictionary"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(values: dict[str, Any], key: str, message: str) -> None:
    found = complaint({**SMALL, **values})
    assert found.startswith(f"the recipe: '{key}'")
    assert message in found


def test_truncation_is_in_the_recipe_only_where_there_is_some() -> None:
    plain = parse({**SMALL, "rollout": {"top_k": 0, "top_p": 1.0, "min_p": 0.0}})
    assert plain.model_dump(mode="json") == parse(SMALL).model_dump(mode="json")
    cut = parse({**SMALL, "rollout": {"top_k": 50, "top_p": 0.9}})
    assert {"top_k": 50, "top_p": 0.9}.items() <= cut.model_dump(mode="json")["rollout"].items()
    assert (cut.rollout.sampling.top_k, cut.rollout.sampling.top_p) == (50, 0.9)


def test_a_group_of_one_is_told_why() -> None:
    assert complaint({**SMALL, "rollout": {"group_size": 1}}) == (
        "the recipe: 'rollout.group_size': input should be greater than or equal to 2, not 1 "
        "(Answers sampled to each problem; a group of one has nothing to compare with)"
    )


def test_several_mistakes_are_told_at_once() -> None:
    found = complaint({"model": {"name": "a/b"}, "stepz": 3, "rollout": {"group_size": 1}})
    assert "'task' is missing" in found
    assert "unknown key 'stepz'" in found
    assert "'rollout.group_size'" in found


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('task = "arithmetic"\n[model]\nname = "a/b"\n[rolout]\n')
    with pytest.raises(CoveyError, match=r"mine\.toml: unknown key 'rolout'; did you mean 'rollout'\?"):
        load(path)
    path.write_text("steps = \n")
    with pytest.raises(
        CoveyError, match=r"mine\.toml isn't valid TOML: Invalid value \(at line 1, column 9\)"
    ):
        load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CoveyError, match=r"mine\.toml isn't valid TOML"):
        load(path)
    with pytest.raises(CoveyError, match=r"can't read the recipe .*nowhere\.toml: No such file or directory"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(CoveyError, match=r"can't read the recipe .*: Is a directory"):
        load(tmp_path)


# Overrides.


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (("--steps", "7"), "steps", 7),
        (("--steps=7",), "steps", 7),
        (("--rollout.group_size", "4"), "rollout.group_size", 4),
        (("--rollout.group-size=4",), "rollout.group_size", 4),
        (("--train.learning-rate", "3e-4"), "train.learning_rate", 3e-4),
        (("--train.betas", "[0.8, 0.9]"), "train.betas", (0.8, 0.9)),
        (("--model.name", "owner/name"), "model.name", "owner/name"),
        (("--model.name", '"owner/name"'), "model.name", "owner/name"),
        (("--model.name=./a=b",), "model.name", "./a=b"),
        (("--task", "jsonl"), "task.name", "jsonl"),
        (("--task.low", "3"), "task.params", {"low": 3}),
        (("--task.operations", '["+", "-"]'), "task.params", {"operations": ["+", "-"]}),
        (("--task.prompt", "{a}{op}{b}="), "task.params", {"prompt": "{a}{op}{b}="}),
        (("--task.low", "-3"), "task.params", {"low": -3}),
        (("--task", '{name = "jsonl", path = "x"}'), "task.params", {"path": "x"}),
        (
            ("--algorithm.kl", "k3", "--algorithm.kl.coefficient", "0.1"),
            "algorithm.kl.params",
            {"coefficient": 0.1},
        ),
        (("--reward", "own.py:score"), "reward.name", "own.py:score"),
        (("--steps", "7", "--steps", "8"), "steps", 8),
        (("--eval.every", "2", "--seed=5"), "eval.every", 2),
    ],
)
def test_an_override_is_read_as_toml_would(overrides: tuple[str, ...], key: str, value: object) -> None:
    found: Any = parse(SMALL, overrides)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("steps", "7"), "don't know what to do with 'steps'; an override is written --section.key value"),
        (("--",), "don't know what to do with '--'"),
        (("--steps",), "the override --steps has no value; write --steps VALUE"),
        (("--train.learning-rate", "--steps", "3"), "the override --train.learning-rate has no value"),
        (("--train.lerning-rate", "1"), "unknown key 'train.lerning_rate'; did you mean 'learning_rate'?"),
        (("--rollout.group-size", "one"), "'rollout.group_size': input should be a valid integer"),
        (("--stepz=3",), "unknown key 'stepz'; did you mean 'steps'?"),
        (("--seed.more=3",), "'seed': input should be a valid integer"),
    ],
)
def test_a_wrong_override_is_told(overrides: tuple[str, ...], message: str) -> None:
    assert message in complaint(SMALL, *overrides)


def test_an_override_of_the_model_s_name_replaces_a_config() -> None:
    recipe = load(ROOT / "recipes" / "tiny.toml", ["--model.name", "owner/name"])
    assert (recipe.model.name, recipe.model.config) == ("owner/name", None)
    assert recipe.model.dtype == "float32"  # the rest of the section stays


def test_overriding_leaves_the_values_alone() -> None:
    values = {**SMALL, "rollout": {"group_size": 4}}
    parse(values, ["--rollout.group-size", "6", "--task.low", "1"])
    assert values == {**SMALL, "rollout": {"group_size": 4}}


@given(
    key=st.sampled_from(["task.prompt", "task.path", "model.name"]),
    value=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_any_text_goes_in_quoted(key: str, value: str) -> None:
    quoted = '"' + "".join(f"\\U{ord(c):08X}" for c in value) + '"'
    found: Any = parse(SMALL, [f"--{key}={quoted}"])
    section, name = key.split(".")
    assert (found.model.name if section == "model" else found.task.params[name]) == value


def test_a_recipe_is_checked_without_torch() -> None:
    """Seconds of imports must not stand between a user and a typing mistake."""
    program = (
        "import sys\nfrom covey.config import load\nload(sys.argv[1])\n"
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "recipes" / "tiny.toml")],
        capture_output=True,
        check=True,
        text=True,
        cwd=ROOT / "src",
    )
    assert done.stdout.strip() == "[]"
