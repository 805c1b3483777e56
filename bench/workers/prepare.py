"""Worker: the model as a folder that every system reads, and the demo's problems and prompts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from covey.build import assemble
from covey.config import load
from covey.models import load_policy, save_policy
from covey.models.tree import shared_stem
from covey.rollout import Order
from covey.types import Problem
from harness.channel import Channel, serve, settings, versions
from harness.environments import cache

ROOT = Path(__file__).resolve().parents[2]


def model(name: str) -> dict[str, Any]:
    """The folder of a model in fp32, exported once, and its sizes."""
    folder = cache() / "models" / name.replace("/", "--")
    if not (folder / "complete").exists():
        save_policy(load_policy(name, dtype="float32"), folder)
        (folder / "complete").touch()
    return {"folder": str(folder), "config": json.loads((folder / "config.json").read_text())}


def problems(folder: str, count: int, seed: int = 0, heldout: int = 0) -> dict[str, Any]:
    """The first ``count`` problems that Covey draws with this seed, and the held-out ones it measures on.

    ``stem`` is how many leading tokens all the prompts share.
    """
    recipe = load(ROOT / "recipes" / "demo.toml", [f"--eval.problems={max(heldout, 1)}"])
    parts = assemble.prepare(recipe)
    drawn = [parts.train[i] for i in Order(len(parts.train), seed).take(count)]
    chat = load_policy(folder, dtype="float32").chat
    rows = [_row(p, chat) for p in drawn]
    return {
        "rows": rows,
        "heldout": [_row(p, chat) for p in parts.heldout[:heldout]],
        "stem": shared_stem([row["prompt_ids"] for row in rows]),
    }


def _row(problem: Problem, chat: Any) -> dict[str, Any]:
    row = asdict(problem)
    return {
        "id": row["id"],
        "messages": list(row["messages"]),
        "answer": row["answer"],
        "prompt_ids": list(chat.prompt(problem.messages)),
    }


if __name__ == "__main__":
    channel = Channel()
    facts = model(settings()["model"])
    channel.send(**facts, versions=versions("torch", "transformers", "numpy"))
    serve(channel, {"problems": lambda **request: problems(facts["folder"], **request)})
