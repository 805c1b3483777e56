"""How long one waits: from `covey train` to the first sampled token, and for `covey --help`.

    python bench/startup.py [--quick]

On the demo's recipe. ``warm`` has SmolLM2's weights converted by an earlier run, ``cold`` converts the GGUF
file anew. The clock starts before the process does. The first token is the first of the evaluation that
every run begins with, drawn after its 128 prompts have gone through the model.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.channel import versions
from harness.measure import Report, arguments, parsed, say, spread
from harness.workers import ROOT, SCRIPTS

ONE = ("--rollout.max_new_tokens", "1", "--checkpoint.every", "0")  # the first token is the first completion


def main() -> None:
    given = parsed(arguments(__doc__, rounds=5, quick=2))
    report = Report("startup", given)
    cases: dict[str, Callable[[], float]] = {
        "help": lambda: finished(given.threads),
        "warm": lambda: first_token(given.threads),
        "cold": lambda: first_token(given.threads, cold=True),
    }
    for name, case in cases.items():
        say(name)
        if name != "cold":
            case()  # what lies on disk is read into memory once
        times = [case() for _ in range(given.rounds)]
        say(f"  {times}")
        found = versions("torch", "transformers")
        report.line(case=name, seconds=spread(times), versions=found)


def finished(threads: int) -> float:
    """Seconds of ``covey --help``."""
    began = time.time()
    subprocess.run(
        [sys.executable, "-m", "covey", "--help"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=_environment(threads),
    )
    return time.time() - began


def first_token(threads: int, *, cold: bool = False) -> float:
    """Seconds of ``covey train recipes/demo.toml`` to its first token; raises SystemExit when it has none."""
    with tempfile.TemporaryDirectory() as folder:
        environment = _environment(threads)
        if cold:
            environment["COVEY_CACHE"] = folder
        arguments = ["train", str(ROOT / "recipes" / "demo.toml"), "--run", str(Path(folder) / "run"), *ONE]
        began = time.time()
        done = subprocess.run(
            [sys.executable, SCRIPTS / "first_token.py", *arguments],
            capture_output=True,
            text=True,
            env=environment,
        )
    told = [line for line in done.stdout.splitlines() if line.startswith("first ")]
    if not told:
        raise SystemExit(f"no token was sampled:\n{done.stdout}{done.stderr}")
    return float(told[0].split()[1]) - began


def _environment(threads: int) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT / "src")}


if __name__ == "__main__":
    main()
