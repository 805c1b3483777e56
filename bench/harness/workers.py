"""The processes that are measured: each system in one of its own, at most one of them awake.

A system that waits for its turn is stopped by SIGSTOP, since threads of OpenMP and of inference engines
spin while they wait, on the very cores that another one is timed on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from harness.environments import cache
from harness.measure import say
from harness.others import OURS

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "bench" / "workers"


class Worker:
    """``script`` of ``bench/workers`` in a process, stopped except during a call.

    python: of the environment it is to run in; Covey's own when absent. threads: for OpenMP, or None
    to leave that to the system itself. ``environment`` is laid over ours. What it prints is in ``log``.
    """

    def __init__(
        self,
        script: str,
        settings: dict[str, Any] | None = None,
        *,
        threads: int | None,
        python: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.name = script
        self.log = cache() / "logs" / f"{script}-{os.getpid()}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        paths = os.pathsep.join((str(ROOT / "bench"), str(ROOT / "src")))
        variables = os.environ | {"PYTHONPATH": paths, "TOKENIZERS_PARALLELISM": "false"}
        variables.pop("OMP_NUM_THREADS", None)
        if threads is not None:
            variables["OMP_NUM_THREADS"] = str(threads)
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [python or sys.executable, SCRIPTS / f"{script}.py", json.dumps(settings or {})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # a group of its own: what it starts is stopped with it
                env=variables | (environment or {}),
            )
        OURS.add(self._process.pid)
        say(f"  starting {script} (log: {self.log})")
        try:
            self.facts = self._answer()
        except BaseException:
            self.close()
            raise

    def call(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Wake it, let it do one thing, and stop it again. Raises SystemExit when it failed."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps({"call": what, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._signal(signal.SIGKILL)
        self._process.communicate()
        OURS.discard(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "it ended\n" + self._tail()}
        if "error" in answer:
            raise SystemExit(f"{self.name}: {answer['error']}\nlog: {self.log}")
        self._stop()
        return answer

    def _stop(self) -> None:
        """Stop it, and see that it has: on a busy machine a signal takes its time."""
        self._signal(signal.SIGSTOP)
        status = Path(f"/proc/{self._process.pid}/stat")
        until = time.monotonic() + 1
        while status.read_text().rpartition(")")[2].split()[0] not in "Tt" and time.monotonic() < until:
            time.sleep(0.001)

    def _tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
