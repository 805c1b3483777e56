"""One writer a run. The operating system lets go of the lock when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from covey.records.atomic import disk_errors
from covey.types import CoveyError


class RunLock:
    """Holds ``path`` for this process. Raises :class:`CoveyError` when another one writes to the run."""

    def __init__(self, path: Path) -> None:
        with disk_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise CoveyError(
                f"another process is writing to {path.parent}: wait until it ends, or stop it first"
            ) from None

    def release(self) -> None:
        os.close(self._file)
