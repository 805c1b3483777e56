"""Trains the golden run anew and puts what is kept of it into tests/golden/run.

    PYTHONPATH=src python tests/golden/make.py

Run it, from the root of the repository, when the numbers are meant to change: another way of sampling,
another optimizer, another order of a sum, a new field of the record. Say in the commit why they did. A run
that can't be replayed otherwise is a defect.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from covey.build import train
from covey.config import load

HERE = Path(__file__).parent
RUN = HERE / "run"
KEPT = ("manifest.json", "summary.json", "metrics.jsonl", "chain.jsonl", "rollouts", "evals")


def make() -> None:
    """Train, and keep what a replay and a verification need; of the machine, what decides the bits."""
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train(load(HERE / "recipe.toml"), run)
        shutil.rmtree(RUN, ignore_errors=True)
        RUN.mkdir()
        for name in KEPT:
            (shutil.copytree if (run / name).is_dir() else shutil.copy)(run / name, RUN / name)
    manifest = json.loads((RUN / "manifest.json").read_text())
    manifest["code"]["git"] = None
    for name in ("platform", "memory_bytes"):
        del manifest["environment"][name]
    write(RUN / "manifest.json", manifest)
    summary = json.loads((RUN / "summary.json").read_text())
    write(RUN / "summary.json", {**summary, "run": "golden", "train_seconds": 0.0})


def write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    make()
