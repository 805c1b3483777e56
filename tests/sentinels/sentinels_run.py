"""Small real runs, and what they leave when a sentinel stops them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import covey.build.assemble
import covey.engines.local
import covey.learn.learner
import covey.models.policy
from covey.build import train
from covey.config import parse
from covey.records import RunReader
from covey.sentinels import Stopped
from covey.types import Completion, Episode, Score
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
    right = covey.learn.learner.token_loss
    monkeypatch.setattr(
        covey.learn.learner, "token_loss", lambda algorithm, batch: change(batch, right(algorithm, batch))
    )
