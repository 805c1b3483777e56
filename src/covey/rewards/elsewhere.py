"""Another Python interpreter, with packages that can't be installed beside Covey's."""

from __future__ import annotations

import fcntl
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from covey.sandbox.channel import Channel, Ended
from covey.types import CoveyError

ANSWER_BYTES = 64 << 20
TAIL_BYTES = 2000
FAILURES = {"exited": "its process ended", "garbled": "it said what is no JSON", "output": "it said too much"}


class Lost(Exception):
    """The other interpreter gives no answer any more. ``kind`` is ``timeout``, ``died`` or ``type``."""

    def __init__(self, kind: str, reason: str, trace: str) -> None:
        super().__init__(reason)
        self.kind, self.trace = kind, trace


class Elsewhere(Channel):
    """One script running there: a line of JSON in, one out. It ends with this process, on Linux even when
    that is killed.

    Neither Covey's packages nor the folder of the script are on its path.

    Raises:
        CoveyError: there is no such interpreter.
    """

    def __init__(self, python: str, script: Path) -> None:
        program = shutil.which(os.path.expanduser(python))
        if program is None:
            raise CoveyError(f"there is no Python interpreter {python!r}: give its path")
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the process
        fcntl.fcntl(self.errors, fcntl.F_SETFL, os.O_APPEND)
        foreign = {n: v for n, v in os.environ.items() if not n.startswith("PYTHON")}
        self.process = subprocess.Popen(
            [program, "-P", str(script), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=foreign | {"PYTHONHASHSEED": "0"},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        super().__init__(self.process.stdout.fileno(), self.process.stdin.fileno(), ANSWER_BYTES)
        self.close = weakref.finalize(self, _end, self.process, self.errors)
        """End it, and what it holds; this happens with the object, too."""

    def ask(self, message: Mapping[str, Any], seconds: float = math.inf) -> dict[str, Any]:
        """Its answer. Raises Lost when there is none; it has been closed then."""
        self.deadline = time.monotonic() + min(seconds, 1e6)
        try:
            return self.exchange(message)
        except Ended as end:
            kind = {"timeout": "timeout", "exited": "died"}.get(end.failure.kind, "type")
            reason = FAILURES.get(end.failure.kind, f"it took longer than {seconds:g} s")
            trace = self.tail()
            self.close()
            raise Lost(kind, f"{reason}; it printed last: {last_line(trace)}", trace) from end

    def bound(self) -> None:
        """Bound what it may allocate from now on by what this process still may, if it was started before
        this process had such a limit; what is started later inherits the limit."""
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if sys.platform != "linux" or most == resource.RLIM_INFINITY:
            return
        if resource.prlimit(self.process.pid, resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
            own = most - _allocated("self") + _allocated(str(self.process.pid))
            resource.prlimit(self.process.pid, resource.RLIMIT_AS, (own, own))

    def tail(self) -> str:
        """The end of what it has printed."""
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - TAIL_BYTES))
        return self.errors.read(TAIL_BYTES).decode("utf-8", "replace")


def last_line(text: str) -> str:
    """The last line that isn't blank, shortened."""
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "nothing"


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, errors):
        assert pipe is not None
        pipe.close()


def _allocated(process: str) -> int:
    """Bytes of a process's address space."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()
