"""Graders in processes of their own, which can be killed.

A call goes to a process that has said it is ready, and its time runs from there: what a process takes to
start, or a neighbour to be killed, is nobody's time but its own. Each process has one call at a time, so
that killing it takes no other call with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from covey.sandbox.channel import Channel, Ended
from covey.types import CoveyError

START_SECONDS = 120.0  # for a grader's imports, on a busy machine
ANSWER_BYTES = 64 << 20
PRINTED_BYTES = 1 << 20
TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may take, and how many go on at a time.

    seconds: from when a ready process is given the call. memory_mb: MiB beyond what the process has
    allocated when it is ready. workers: processes; 0 is one for each core, 8 at most.

    Raises:
        CoveyError: one of them isn't such a number.
    """

    seconds: float = 10.0
    memory_mb: int = 4096
    workers: int = 0

    def __post_init__(self) -> None:
        for name, value, whole in (
            ("seconds", self.seconds, False),
            ("memory_mb", self.memory_mb, True),
            ("workers", self.workers, True),
        ):
            fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not fits or not (value > 0 or (name == "workers" and value == 0)) or value == float("inf"):
                kind = "a whole number" if whole else "a number"
                raise CoveyError(f"[reward] limits.{name} must be {kind} above 0, not {value!r}")

    @property
    def processes(self) -> int:
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        return self.workers or min(cores, 8)


class Broken(Exception):
    """A call has no answer: ``kind`` is ``timeout``, ``memory``, ``died`` or ``start``."""

    def __init__(self, kind: str, detail: str, trace: str | None = None) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.trace = kind, detail, trace


class Worker(Channel):
    """One process, started at once; it is ready when it has imported what it grades with."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the process
        fcntl.fcntl(self.errors, fcntl.F_SETFL, os.O_APPEND)  # its place is shared, and is moved here
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "covey.rewards.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=os.environ
            | ENVIRONMENT
            | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            start_new_session=True,  # Ctrl-C is the run's to act on
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        super().__init__(self.process.stdout.fileno(), self.process.stdin.fileno(), ANSWER_BYTES)
        self.setup = setup

    def make_ready(self) -> None:
        """Wait for the process to say so. Raises Broken when it can't."""
        self.deadline = time.monotonic() + START_SECONDS
        try:
            reply = self.exchange(self.setup)
        except Ended as end:
            raise Broken("start", f"the grader's process didn't start: {end}", self.tail()) from end
        if "refused" in reply:
            trace = str(reply["refused"])
            raise Broken("start", f"the grader can't be imported: {trace.strip().splitlines()[-1]}", trace)

    def ask(self, order: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """One call. Raises Broken when it has no answer; the process is of no use after that."""
        self.deadline = time.monotonic() + seconds
        try:
            reply = self.exchange(order)
        except Ended as end:
            if end.failure.kind == "timeout":
                raise Broken("timeout", f"took longer than {seconds:g} s") from end
            if end.failure.kind != "exited":
                raise Broken("type", "said more than can be read, or no JSON") from end
            raise Broken("died", f"ended its process ({self.exit()})", self.tail()) from end
        if "memory" in reply:
            raise Broken("memory", f"needs more than limits.memory_mb = {self.setup['memory_mb']}")
        if self.errors.seek(0, os.SEEK_END) > PRINTED_BYTES:
            self.errors.truncate(0)
        return reply

    def exit(self) -> str:
        """How the process has ended. It isn't reaped: its number stays taken until its group is killed."""
        options = os.WEXITED | os.WNOWAIT | os.WNOHANG
        until = time.monotonic() + 1
        while (ended := os.waitid(os.P_PID, self.process.pid, options)) is None:
            if time.monotonic() > until:
                return "it has closed its pipe"
            time.sleep(0.01)
        exited = ended.si_code == os.CLD_EXITED
        return f"exit code {ended.si_status}" if exited else signal.Signals(ended.si_status).name

    def tail(self) -> str:
        """The end of what the grader has printed."""
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - TAIL_BYTES))
        return self.errors.read(TAIL_BYTES).decode("utf-8", "replace")

    def kill(self) -> None:
        """End the process and what it started."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            assert pipe is not None
            pipe.close()


ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # there is a process for each core
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",  # a verdict that hangs on the order of a set can be recomputed
}


class Pool:
    """Processes that grade, started with the first call.

    setup: what `covey.rewards.worker` builds its reward from. `close` ends them and whatever they are doing;
    a later call starts them anew. They also end with the pool, with the program, and, on Linux, with its
    death.
    """

    def __init__(self, setup: Mapping[str, Any], limits: Limits) -> None:
        self.setup, self.limits = {**setup, "memory_mb": limits.memory_mb}, limits
        self._crew: Crew | None = None

    def submit(self, order: Mapping[str, Any], seconds: float | None = None) -> Future[dict[str, Any]]:
        """The answer to one call, when it is there; or `Broken`."""
        if self._crew is None:
            self._crew = Crew(self.setup, self.limits.processes)
            self._end = weakref.finalize(self, self._crew.close)
        answer: Future[dict[str, Any]] = Future()
        self._crew.orders.put((order, seconds or self.limits.seconds, answer))
        return answer

    def close(self) -> None:
        if self._crew is not None:
            self._end()
            self._crew = None


class Crew:
    """The threads of a pool, each of which has a process and hands it one call after the other."""

    def __init__(self, setup: Mapping[str, Any], count: int) -> None:
        self.setup, self.closing = setup, False
        self.orders: SimpleQueue[tuple[Mapping[str, Any], float, Future[dict[str, Any]]] | None] = (
            SimpleQueue()
        )
        self.lock = threading.RLock()  # the collector may close a pool in any thread, this lock's owner too
        self.workers: set[Worker] = set()
        self.threads = [threading.Thread(target=self.serve, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def serve(self) -> None:
        """Take a call only when a process is ready for it: until then, others may be."""
        worker = self.hire()
        while (order := self.orders.get()) is not None:
            message, seconds, answer = order
            try:
                if isinstance(worker, Broken):
                    raise worker
                answer.set_result(worker.ask(message, seconds))
            except Broken as broken:
                answer.set_exception(broken)
                self.dismiss(worker)
                worker = self.hire()
            except Exception as error:  # a defect of ours: better told than a call that never ends
                answer.set_exception(error)
        self.dismiss(worker)

    def hire(self) -> Worker | Broken:
        """A new process that is ready, or why there is none."""
        with self.lock:
            if self.closing:
                return Broken("start", "the grader's processes have been ended")
            try:
                worker = Worker(self.setup)
            except OSError as error:  # too many processes or files
                return Broken("start", f"the grader's process can't be started: {error}")
            self.workers.add(worker)
        try:
            worker.make_ready()
        except Broken as broken:
            self.dismiss(worker)
            return broken
        return worker

    def dismiss(self, worker: Worker | Broken) -> None:
        if isinstance(worker, Worker):
            with self.lock:
                self.workers.discard(worker)
                worker.close()

    def close(self) -> None:
        """End every process, and wait until that is so. What hasn't been answered won't be."""
        with self.lock:
            self.closing = True
            for worker in tuple(self.workers):
                worker.kill()
        for _ in self.threads:
            self.orders.put(None)
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join()
