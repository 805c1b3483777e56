"""How much of the machine somebody else used while a benchmark ran."""

from __future__ import annotations

import os
import time
from pathlib import Path

OURS: set[int] = set()
"""The processes that a benchmark has started and that still live."""


class Others:
    """The share of all cores' time that went neither to this benchmark nor to rest; a hypervisor's too."""

    def __init__(self) -> None:
        self._since, self._last = self._now(), 0.0

    def share(self) -> float:
        """Since the last call; what that one said if it was less than a second ago."""
        now = self._now()
        wall, busy, ours = (b - a for a, b in zip(self._since, now, strict=True))
        if wall >= 1:
            self._since = now
            self._last = max(0.0, round((busy - ours) / (wall * (os.cpu_count() or 1)), 3))
        return self._last

    def _now(self) -> tuple[float, float, float]:
        """Seconds on the clock, seconds of all cores that were not idle, and seconds that we used."""
        tick = os.sysconf("SC_CLK_TCK")
        user, nice, system, _, _, *rest = Path("/proc/stat").read_text().split()[1:9]
        busy = sum(map(int, (user, nice, system, *rest))) / tick
        return time.perf_counter(), busy, sum(os.times()[:4]) + sum(map(_used, OURS))


def _used(process: int) -> float:
    """Seconds of all cores that a living process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
