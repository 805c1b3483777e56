"""SIGTERM and Ctrl-C: taken at once where nothing can be torn, and otherwise at the next safe place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from covey.protocols import Source
from covey.types import Group

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; its message is the signal's name."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Interrupts:
    """Turns the first of `SIGNALS` into `Interrupted`; later ones change nothing.

    It is raised in two places only, so that no state is ever half-way:

    - from the signal itself, inside `harmless`, where a run only computes what it will compute
      again: loading, sampling, grading, evaluating;
    - from `check`, called on entering `harmless`, and before each pass through a model whose
      weights are those of the last completed step.

    In a thread other than the main one, where Python allows no signal handlers, it does nothing.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._harmless = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._arrived) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # None: not Python's to set back
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise `Interrupted` when a signal has come."""
        if self._number is not None:
            raise Interrupted(self._number)

    @contextmanager
    def harmless(self) -> Iterator[None]:
        """What runs inside may be abandoned at any instruction."""
        outer, self._harmless = self._harmless, True
        try:
            self.check()
            yield
        finally:
            self._harmless = outer

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        first = self._number is None
        self._number = number if first else self._number
        if first and self._harmless:
            raise Interrupted(number)


class InterruptibleSource(Source):
    """A source that a signal ends at once, whatever it is waiting for: a long answer, a slow grader."""

    def __init__(self, source: Source, interrupts: Interrupts) -> None:
        self.source, self.interrupts = source, interrupts

    def next(self, step: int) -> Sequence[Group]:
        with self.interrupts.harmless():
            return self.source.next(step)

    def state(self) -> Mapping[str, Any]:
        return self.source.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.source.restore(state)
