"""``covey sandbox FILE.py``: untrusted code under the same rules as the reward's."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from covey.sandbox import Limits, run
from covey.types import CoveyError

DEFAULT = Limits()


def sandbox(
    file: Path,
    *,
    stdin: Path | None = None,
    seconds: float = DEFAULT.seconds,
    memory_mb: int = DEFAULT.memory_mb,
    output_bytes: int = DEFAULT.output_bytes,
    backend: str | None = None,
    unsafe_local: bool = False,
) -> int:
    """Run one untrusted Python file and print what it did as JSON; exit code 1 unless it ended well.

    Parameters
    ----------
    file
        A Python program; it may use the standard library.
    stdin
        A file that the program reads as its input; nothing when absent.
    seconds
        The time it may take.
    memory_mb
        The memory it may take, in MiB.
    output_bytes
        How much it may print.
    backend
        bubblewrap or landlock; the first that works here when absent.
    unsafe_local
        Where no sandbox works, run it with your own rights.
    """
    limits = Limits(seconds=seconds, memory_mb=memory_mb, output_bytes=output_bytes)
    given = _text(stdin) if stdin else ""
    outcome = run(_text(file), stdin=given, limits=limits, backend=backend, unsafe_local=unsafe_local)
    print(json.dumps({**asdict(outcome), "limits": asdict(limits)}))
    return 0 if outcome.status == "ok" else 1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CoveyError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CoveyError(f"{path}: not a text in UTF-8: {error.reason} at byte {error.start}") from error
