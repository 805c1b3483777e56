"""``covey init DIR``: an own task and an own reward to start from, with their test and a recipe."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from covey.types import CoveyError

FILES = ("task.py", "reward.py", "test_own.py", "recipe.toml")

NEXT = (
    "cd {}",
    "python -m pytest",
    "covey reward test recipe.toml",
    "covey train recipe.toml --run runs/first",
)

TINY = """\
# Made from these numbers, to see that all works: it has learned nothing before. For a real model:
# name = "smollm2-135m", a Hugging Face folder, a .gguf file or a hub id.
config = { family = "llama", hidden_size = 64, layers = 2, heads = 4, kv_heads = 2 }
dtype = "float32\""""


def init(directory: Path, *, model: str | None = None) -> None:
    """Write an own task, an own reward, their test and a recipe that runs. Overwrites nothing.

    Parameters
    ----------
    directory
        Where to; it is made if it isn't there.
    model
        The recipe's model; a tiny one, made from its config, when absent.
    """
    if present := [name for name in FILES if (directory / name).exists()]:
        raise CoveyError(
            f"{directory} has {', '.join(present)} already, and nothing is overwritten: choose another folder"
        )
    texts = {name: _text(name) for name in FILES}
    named = f"name = {json.dumps(model)}" if model else TINY
    texts["recipe.toml"] = (
        texts["recipe.toml"].replace("{model}", named).replace("{learning_rate}", "1e-5" if model else "3e-3")
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with (directory / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise CoveyError(f"can't write to {directory}: {error.strerror or error}") from error
    print(f"{directory}: {', '.join(FILES)}. Next:")
    for command in NEXT:
        print(f"  {command.format(directory)}")


def _text(name: str) -> str:
    return (resources.files("covey.cli") / "scaffold" / f"{name}.txt").read_text(encoding="utf-8")
