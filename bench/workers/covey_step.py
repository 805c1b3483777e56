"""Worker: a whole Covey run, recorded, watched and all, one optimizer step at a time.

It waits after each step, so that another system can have its turn; a step's time is all that passes
from there to the end of the next one. Settings: ``recipe``, as plain values.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "8000")  # as the command line does, before torch is imported

from covey.build import train
from covey.config import parse
from covey.view.progress import Progress, StepReport
from harness.channel import Channel, forget_peak, peak_gb, settings, versions


class Gate(Progress):
    """The first step, with all that loads before it, is the warm-up."""

    def __init__(self, channel: Channel) -> None:
        self.channel, self.began = channel, time.perf_counter()

    def step(self, report: StepReport) -> None:
        seconds = time.perf_counter() - self.began
        metrics = report.metrics
        self.channel.send(
            seconds=seconds,
            tokens=int(metrics["tokens_sampled"]),
            trained=int(metrics["episodes_trained"]),
            reward=metrics["reward"],
            peak_gb=peak_gb(),
            phases=dict(report.seconds),
            versions=versions("torch", "transformers"),
        )
        self.channel.receive()
        forget_peak()
        self.began = time.perf_counter()


if __name__ == "__main__":
    gate = Gate(Channel())
    with tempfile.TemporaryDirectory() as folder:
        train(parse(settings()["recipe"]), Path(folder) / "run", view=gate)
