"""What watching costs: one JSON line with its share of a step, on the demo's model and recipe.

    python bench/sentinels.py [RECIPE] [--steps N]

Seconds are wall-clock, from the run's own timings.jsonl: median and range over the steps after the first,
which alone has the check of the micro-batch split (``once_seconds``). ``share_of_run`` spreads that over
the steps that the recipe asks for.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "8000")  # as the command line does, before torch is imported

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", type=Path, default=ROOT / "recipes" / "demo.toml")
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()

    from covey.build import train
    from covey.config import load
    from covey.records import RunReader

    overrides = [f"--steps={given.steps}", "--eval.problems=1", "--eval.samples=1", "--checkpoint.every=0"]
    with tempfile.TemporaryDirectory() as folder:
        train(load(given.recipe, overrides), Path(folder) / "run")
        reader = RunReader(Path(folder) / "run")
        manifest, rows = reader.manifest(), reader.timings()
    watch = [row["watch"] for row in rows]
    whole = [sum(seconds for phase, seconds in row.items() if phase != "step") for row in rows]
    shares = [w / t for w, t in zip(watch[1:], whole[1:], strict=True)]
    usual, step = statistics.median(watch[1:]), statistics.median(whole[1:])
    once, steps = watch[0] - usual, load(given.recipe).steps
    line = {
        "bench": "sentinels",
        "recipe": given.recipe.name,
        "parameters": manifest["model"]["parameters"],
        "dtype": manifest["model"]["dtype"],
        "threads": manifest["environment"]["threads"],
        "steps": len(rows),
        "step_seconds": _spread(whole[1:]),
        "watch_seconds": _spread(watch[1:]),
        "share_of_step": _spread(shares),
        "once_seconds": round(once, 4),
        "share_of_run": round((once / steps + usual) / step, 5),
    }
    print(json.dumps(line))


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    low, high = min(values), max(values)
    return {"median": round(statistics.median(values), 5), "low": round(low, 5), "high": round(high, 5)}


if __name__ == "__main__":
    main()
