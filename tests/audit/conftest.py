"""One tiny run for all tests of the audit; whoever edits it edits a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from covey.build import train
from covey.config import parse

REWARD = Path(__file__).parents[1] / "golden" / "digits.py"


def tiny(**changes: Any) -> dict[str, Any]:
    """A recipe that takes a second, with a dense reward, so that every step learns."""
    recipe: dict[str, Any] = {
        "steps": 3,
        "threads": 1,
        "model": {
            "config": {
                "family": "llama",
                "hidden_size": 16,
                "heads": 2,
                "kv_heads": 1,
                "intermediate_size": 16,
            },
            "dtype": "float32",
        },
        "task": {"name": "arithmetic", "low": 0, "high": 3, "heldout": 0.3, "prompt": "{a}{op}{b}="},
        "reward": {"name": f"{REWARD}:digits"},
        "rollout": {"problems_per_step": 3, "group_size": 3, "max_new_tokens": 3, "refills": 1},
        "train": {"learning_rate": 1e-2, "warmup_steps": 1},
        "eval": {"problems": 2, "samples": 2, "every": 2},
        "checkpoint": {"every": 1, "keep": 3},
    }
    for key, value in changes.items():
        recipe[key] = {**recipe.get(key, {}), **value} if isinstance(value, dict) else value
    return recipe


@pytest.fixture(scope="session", autouse=True)
def threads() -> Iterator[None]:
    """A run sets the number of threads for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "run"
    train(parse(tiny()), folder)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be spoiled."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains another tiny run, with changes to its recipe."""

    def make(**changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("audit") / "run"
        train(parse(tiny(**changes)), folder)
        return folder

    return make
