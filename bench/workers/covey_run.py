"""Worker: a whole Covey run, measured on held-out problems as it goes. Settings: ``recipe``, plain values."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "8000")  # as the command line does, before torch is imported

from covey.build import train
from covey.config import parse
from covey.records import RunReader
from harness.channel import Channel, serve, settings, versions


def run() -> dict[str, Any]:
    """Seconds and reward of each step, measuring aside; by steps taken, 1 or 0 for each greedy answer."""
    with tempfile.TemporaryDirectory() as folder:
        train(parse(settings()["recipe"]), Path(folder) / "run")
        reader = RunReader(Path(folder) / "run")
        timings = reader.timings()
        return {
            "seconds": [sum(v for k, v in row.items() if k not in ("step", "evaluate")) for row in timings],
            "rewards": [row["reward"] for row in reader.metrics()],
            "right": {
                str(e.step): [float(a.scores[0].value or 0.0) for a in e.greedy] for e in reader.evaluations()
            },
        }


if __name__ == "__main__":
    channel = Channel()
    channel.send(versions=versions("torch", "transformers"))
    serve(channel, {"run": run})
