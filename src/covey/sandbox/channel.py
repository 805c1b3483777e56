"""Lines of JSON to and from a process that may say anything, or nothing."""

from __future__ import annotations

import json
import math
import os
import select
import time
from collections.abc import Mapping
from typing import Any

from covey.sandbox.outcome import Failure


class Ended(Exception):
    """The process is not to be talked with any more."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Channel:
    """Two pipes: what is sent and received by ``deadline``, on the clock of ``time.monotonic``.

    ``most`` bounds the bytes of what is read.
    """

    def __init__(self, reading: int, writing: int, most: int) -> None:
        os.set_blocking(writing, False)
        self.reading, self.writing, self.most = reading, writing, most
        self.unread, self.deadline = b"", math.inf

    def exchange(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send a line and receive one, a JSON object each.

        Raises:
            Ended: none came in time, or none of an allowed length and form.
        """
        unsent = json.dumps(message).encode() + b"\n"
        poll = select.poll()
        poll.register(self.reading, select.POLLIN)
        poll.register(self.writing, select.POLLOUT)
        while unsent:
            if self.writing in self.wait(poll):
                try:
                    unsent = unsent[os.write(self.writing, unsent) :]
                except BrokenPipeError:
                    break  # what it said before it went is still read
        poll.unregister(self.writing)
        while b"\n" not in self.unread:
            self.wait(poll)
        line, _, self.unread = self.unread.partition(b"\n")
        return parse(line)

    def wait(self, poll: select.poll) -> dict[int, int]:
        """Wait until a pipe is ready, reading what there is to read."""
        left = self.deadline - time.monotonic()
        ready = dict(poll.poll(math.ceil(left * 1000))) if left > 0 else {}
        if not ready:
            raise Ended(Failure("timeout"))
        if self.reading in ready:
            chunk = os.read(self.reading, 1 << 16)
            if not chunk:
                raise Ended(Failure("exited"))
            self.unread += chunk
            if len(self.unread) > self.most:
                raise Ended(Failure("output"))
        return ready


def parse(line: bytes | str) -> dict[str, Any]:
    """A line as a JSON object. Raises Ended when it is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Ended(Failure("garbled", type(error).__name__)) from error
    if not isinstance(message, dict):
        raise Ended(Failure("garbled", "no object"))
    return message
