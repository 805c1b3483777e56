"""A worker's end of its line to the benchmark: requests in on stdin, answers out, a JSON object a line."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Channel:
    """Takes stdout for itself: whatever else prints there lands on stderr.

    The worker dies with the benchmark that started it, even if it is stopped at that time.
    """

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def receive(self) -> dict[str, Any]:
        """The next request; ends the process when there will be none."""
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        return json.loads(line)

    def send(self, **answer: Any) -> None:
        self._out.write(json.dumps(answer) + "\n")
        self._out.flush()


def serve(channel: Channel, handlers: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer requests for ever. A handler that raises is told with its traceback, and ends the worker."""
    while True:
        request = channel.receive()
        try:
            answer = handlers[request.pop("call")](**request)
        except BaseException:
            channel.send(error=traceback.format_exc())
            raise
        channel.send(**answer)


def settings() -> dict[str, Any]:
    """What the benchmark started this worker with."""
    return json.loads(sys.argv[1])


def versions(*packages: str) -> dict[str, str]:
    """The versions of installed packages, and Python's."""
    return {"python": sys.version.split()[0], **{name: metadata.version(name) for name in packages}}


def forget_peak() -> None:
    """Start measuring the process's peak memory anew, from what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_gb() -> float:
    """The most this process held in memory since `forget_peak`, in GB (10⁹ bytes)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) * 1024 / 1e9, 3)
    raise RuntimeError("the kernel doesn't tell a process's peak memory")
