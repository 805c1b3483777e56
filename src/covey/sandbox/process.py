"""One program in one confined process: started, spoken with until its time is up, and always ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import IO, Any

from covey.sandbox import interpreter
from covey.sandbox.channel import Channel, Ended
from covey.sandbox.confinement import Confinement
from covey.sandbox.outcome import Limits, Outcome
from covey.types import CoveyError

START_SECONDS = 20.0  # for an interpreter to start behind its walls, on a busy machine
TAIL_BYTES = 4096


class Process(Channel):
    """A confined interpreter and two pipes to it. As a context, it is dead when the block ends.

    ``order`` is the driver's: the program and what to do with it. ``output`` and ``input`` are files for
    the program's stdout and stdin; without them it has neither.
    """

    def __init__(
        self,
        confinement: Confinement,
        order: Mapping[str, Any],
        limits: Limits,
        input: IO[bytes] | None = None,
        output: IO[bytes] | None = None,
    ) -> None:
        self.limits = limits
        size = {"seconds": limits.seconds, "memory": limits.memory_mb << 20, "output": limits.output_bytes}
        self.order = {**order, "limits": size, "confinement": confinement.inside}
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            errors = ours.enter_context(tempfile.TemporaryFile())
            questions, writing = _pipe(theirs, ours)
            reading, answers = _pipe(ours, theirs)
            passed, command = [questions, answers], interpreter.command(questions, answers)
            if confinement.filter is not None:
                code, filled = _pipe(theirs, theirs)
                os.write(filled, confinement.filter)
                passed.append(code)
                command = [*confinement.prefix, "--seccomp", str(code), "--", *command]
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=input or subprocess.DEVNULL,
                    stdout=output or subprocess.DEVNULL,
                    stderr=errors,
                    env=interpreter.ENVIRONMENT,
                    cwd="/",
                    pass_fds=passed,
                    start_new_session=True,
                )
            except OSError as error:  # too many processes or files
                raise CoveyError(f"the sandbox didn't start: {error}") from error
            super().__init__(reading, writing, limits.output_bytes)
            self.errors, self.ours = errors, ours.pop_all()

    def start(self) -> None:
        """Hand over the program; its clock runs from here on.

        Raises:
            CoveyError: the walls didn't come up, and no program was run.
        """
        self.deadline = time.monotonic() + START_SECONDS
        try:
            ready = self.exchange(self.order)
        except Ended as end:
            self.kill()
            raise CoveyError(f"the sandbox didn't start ({end}): {self.stderr_tail().strip()}") from end
        assert ready == {"ready": True}  # nothing but the driver has run so far
        self.deadline = time.monotonic() + self.limits.seconds

    def finish(self) -> int | None:
        """Wait for the program's end and return its exit code; None when its time is up first."""
        poll = select.poll()
        poll.register(self.reading, select.POLLIN)
        with contextlib.suppress(Ended):
            while True:
                self.wait(poll)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(max(0, self.deadline - time.monotonic()))
        return None

    def stderr_tail(self) -> str:
        """The end of what the process wrote to stderr."""
        size = self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, size - TAIL_BYTES))
        return self.errors.read(TAIL_BYTES).decode("utf-8", "replace")

    def kill(self) -> None:
        """End the process and what it started, and wait until that is so."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        # What bubblewrap started dies a moment after it, and with it the last holder of the pipe's other end.
        poll, until = select.poll(), time.monotonic() + 1
        poll.register(self.reading, select.POLLIN)
        while (left := until - time.monotonic()) > 0 and poll.poll(1000 * left):
            if not os.read(self.reading, 1 << 16):
                break

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        with self.ours:
            self.kill()


def run(confinement: Confinement, program: str, stdin: str, limits: Limits) -> Outcome:
    """Run a whole program. Raises CoveyError when the sandbox doesn't start."""
    order = {"program": program, "main": True, "asked": []}
    with tempfile.TemporaryFile() as input, tempfile.TemporaryFile() as output:
        input.write(stdin.encode("utf-8", "surrogatepass"))
        input.seek(0)
        with Process(confinement, order, limits, input, output) as process:
            process.start()
            began = time.monotonic()
            code = process.finish()
            seconds = time.monotonic() - began
            process.kill()
            printed = output.seek(0, os.SEEK_END)
            output.seek(0)
            stdout = output.read(limits.output_bytes).decode("utf-8", "replace")
            if code is None:
                status = "timeout"
            elif printed >= limits.output_bytes or len(process.unread) > limits.output_bytes:
                status = "output"
            elif code == 0:
                status = "ok"
            else:
                status = "memory" if b'"MemoryError"' in process.unread else "failed"
            return Outcome(status, stdout, process.stderr_tail(), round(seconds, 4), confinement.name)


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    reading, writing = os.pipe()
    reader.callback(os.close, reading)
    writer.callback(os.close, writing)
    return reading, writing
