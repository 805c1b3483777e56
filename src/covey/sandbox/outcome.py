"""What untrusted code is given, and what comes back of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Value: TypeAlias = Any
"""A plain value: None, bool, int, float, str, list, tuple, dict or set, of exactly these types throughout."""

Kind: TypeAlias = Literal[
    "raised", "wrong", "timeout", "memory", "output", "opaque", "exited", "garbled", "tests"
]
"""Why there is no value.

- ``raised``: the program raised an exception
- ``wrong``: a test's assertion failed
- ``timeout`` ``memory`` ``output``: a limit was reached
- ``opaque``: the value isn't plain
- ``exited``: the process ended before its answer
- ``garbled``: what came back is no answer
- ``tests``: the tests themselves can't be run
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use: wall-clock time over all its calls, memory, and what it returns or prints.

    There is always one process with one thread, no network, and no file to write.
    """

    seconds: float = 3.0
    memory_mb: int = 512
    output_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Failure:
    """Instead of a value: why there is none.

    ``detail`` is the program's own text; take it for hostile. ``exception`` names the nearest built-in
    class of what was raised.
    """

    kind: Kind
    detail: str = ""
    exception: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a whole program did. ``stdout`` and ``stderr_tail`` are its own text; take them for hostile.

    ``status`` is ``ok`` when it ended by itself with exit code 0, ``failed`` when it ended otherwise.
    """

    status: Literal["ok", "failed", "timeout", "memory", "output"]
    stdout: str
    stderr_tail: str
    seconds: float
    backend: str
