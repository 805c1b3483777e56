"""pydantic-monty: an interpreter of its own for a part of Python, without files, network or environment.

It answers a call in a tenth of a millisecond, where a confined CPython takes ten to start. It isn't
CPython, though: see `covey.sandbox.faithful`, and who decides in `covey.sandbox.calls`.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import inspect
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from covey.sandbox.channel import Ended, parse
from covey.sandbox.child import from_wire, to_wire
from covey.sandbox.outcome import Failure, Limits, Value
from covey.sandbox.session import DETAIL_CHARACTERS, Host, result_of

PROGRAMS_PER_WORKER = 200  # a session starts from nothing in any case; now and then its process does, too
MOST_WORKERS = 64
MOST_QUESTIONS = 100_000  # of one session to its hosts

# After the program's text: the same form of values as everywhere, under names that no program uses.
_WIRE = f"""
import json as __json__
{inspect.getsource(to_wire).replace("to_wire", "__to_wire__")}
def __answer__(value):
    try:
        return __json__.dumps({{"value": __to_wire__(value)}})
    except (TypeError, RecursionError) as error:
        return __json__.dumps({{"opaque": str(error)}})
"""
_HOST = """
def {name}(*args, **kwargs):
    return __host__(__json__.dumps(__to_wire__(["{name}", list(args), kwargs])))
"""
# Formatted and cut, so that a string of limited length comes out, whatever the program did to its names.
_CALL = 'f"{{__answer__({function}(*__args__, **__kwargs__))}}"[:{most}]'


def version() -> str | None:
    """The installed version, or None."""
    try:
        import pydantic_monty
    except ImportError:
        return None
    return pydantic_monty.__version__


@functools.cache
def _pool(role: str, process: int) -> Any:
    """The workers for one role. Those that have seen tests never see a program that is tested.

    One pool a process, since workers aren't shared with what is forked from it.
    """
    from pydantic_monty import Monty

    _without_telemetry()
    pool = Monty(max_processes=MOST_WORKERS, max_checkouts_per_worker=PROGRAMS_PER_WORKER).__enter__()
    atexit.register(lambda: pool.__exit__(None, None, None) if os.getpid() == process else None)
    return pool


def _without_telemetry() -> None:
    """Where OpenTelemetry isn't installed, let Python know it.

    Monty imports it at every call, and Python looks through all of its path each time: half of a test's time.
    """
    if importlib.util.find_spec("opentelemetry") is None:
        cast("dict[str, object]", sys.modules).setdefault("opentelemetry", None)


class Worker:
    """A `covey.sandbox.session.Session` in monty. ``role`` keeps tests and programs in separate processes."""

    def __init__(
        self, role: str, program: str, limits: Limits, hosts: Mapping[str, Host] | None = None
    ) -> None:
        self.program, self.limits, self.hosts = program, limits, hosts or {}
        self.deadline = time.monotonic() + limits.seconds
        self.over: Failure | None = None
        self.worker = _pool(role, os.getpid()).checkout(
            limits={
                "max_feed_duration_secs": limits.seconds,
                "max_total_sleep_secs": limits.seconds,
                "max_memory": limits.memory_mb << 20,
                "max_suspensions": MOST_QUESTIONS,
            },
            os_policy={"random_start": {"seed": 0}},
            assert_message_annotations=False,
        )

    def load(self) -> Failure | None:
        hosts = "".join(_HOST.format(name=name) for name in self.hosts)
        # The last expression's value would come out: it is None.
        loaded = self._feed(f"{self.program}\nNone") or self._feed(f"{_WIRE}{hosts}\nNone")
        return loaded if isinstance(loaded, Failure) else None

    def call(self, function: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value | Failure:
        code = _CALL.format(function=function, most=self.limits.output_bytes + 1)
        text = self._feed(code, __args__=list(args), __kwargs__=dict(kwargs))
        if isinstance(text, Failure):
            return text
        try:
            if len(text) > self.limits.output_bytes:
                raise Ended(Failure("output"))
            return result_of(parse(text))
        except Ended as end:
            self.over = end.failure
            return end.failure

    def _feed(self, code: str, **inputs: Value) -> Any:
        """What the code's last expression is worth, or why it has no worth."""
        from pydantic_monty import MontyCrashedError, MontyError

        if self.over is None and time.monotonic() > self.deadline:
            self.over = Failure("timeout")
        if self.over is not None:
            return self.over
        try:
            lookup = {"__host__": self._host} if self.hosts else {}
            return self.session.feed_run(code, inputs=inputs, external_lookup=lookup, print_callback=_unheard)
        except MontyCrashedError as error:
            self.over = Failure("timeout" if error.timed_out else "exited")
        except MontyError as error:
            raised = error.exception()
            name = type(raised).__name__
            if not isinstance(raised, TimeoutError | MemoryError):
                return Failure("raised", f"{name}: {raised}"[:DETAIL_CHARACTERS], name)
            self.over = Failure("timeout" if isinstance(raised, TimeoutError) else "memory")
        return self.over

    def _host(self, text: str) -> Value:
        name, args, kwargs = from_wire(json.loads(text))
        return self.hosts[name](*args, **kwargs)

    def __enter__(self) -> Worker:
        self.session = self.worker.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.__exit__(None, None, None)


def _unheard(stream: str, text: str) -> None:
    """Where a program's printing goes."""
