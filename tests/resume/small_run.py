"""A run of four small steps; what stops it, and what it comes to."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from covey.config import Recipe, parse
from covey.view.progress import Progress, StepReport

VALUES: dict[str, Any] = {
    "steps": 4,
    "threads": 1,
    "model": {
        "config": {"family": "llama", "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2},
        "dtype": "float32",
    },
    "task": {"name": "arithmetic", "low": 0, "high": 9, "prompt": "{a}{op}{b}="},
    "reward": f"{Path(__file__).with_name('digits.py')}:digits",
    "rollout": {"problems_per_step": 4, "group_size": 6, "max_new_tokens": 16},
    "train": {"learning_rate": 3e-3, "warmup_steps": 1},
    "eval": {"problems": 3, "samples": 2, "every": 2},
    "checkpoint": {"every": 1},
}


def small(**changes: Any) -> Recipe:
    """The recipe; a section given here is laid over its own, any other key replaces it."""
    merged = {k: VALUES[k] | v if isinstance(VALUES.get(k), dict) else v for k, v in changes.items()}
    return parse(VALUES | merged)


def contents(run: Path) -> dict[str, bytes]:
    """The bytes of all that a run comes to: not its attempts, events and times, nor the summary,
    which holds times too."""
    names = ("metrics.jsonl", "chain.jsonl", "rollouts/*", "evals/*", "model/*")
    last = max(run.glob("checkpoints/0*")).name
    files = [path for name in (*names, f"checkpoints/{last}/*") for path in run.glob(name)]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


class Hears(Progress):
    """A viewer that keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str, *, error: bool = False) -> None:
        self.messages.append(text)


class Signals(Hears):
    """Sends this process a signal as soon as step ``after`` is complete."""

    def __init__(self, after: int, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.after, self.number = after, number

    def step(self, report: StepReport) -> None:
        if report.step == self.after:
            os.kill(os.getpid(), self.number)


class Killed(BaseException):
    """What nobody catches: the process is gone."""


class Kills(Hears):
    """Ends the run when step ``after`` is complete: recorded, but not yet saved."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def step(self, report: StepReport) -> None:
        if report.step == self.after:
            raise Killed
