"""Run a program, call its functions, test it: what the rest of Covey asks of the sandbox.

Verdicts are made out here or in a second sandbox that holds the tests and never the program; the program
is told inputs, one at a time, and says values. Monty is asked first. Its word counts when it has all values;
when it hasn't, for whatever reason, CPython decides.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from covey.sandbox import monty, process
from covey.sandbox.backends import Backend, chosen, walls
from covey.sandbox.child import to_wire
from covey.sandbox.faithful import faithful
from covey.sandbox.outcome import Failure, Limits, Outcome, Value
from covey.sandbox.session import Host, Interpreter, Session, exception
from covey.types import CoveyError

MONTY_SECONDS = 0.25  # monty is the slower interpreter: what takes it longer is CPython's to time

T = TypeVar("T")


def run(
    program: str,
    *,
    stdin: str = "",
    limits: Limits | None = None,
    backend: str | None = None,
    unsafe_local: bool = False,
) -> Outcome:
    """Run a whole program in a fresh confined CPython.

    Args:
        program: its text; it runs as ``__main__``, with the standard library and an empty environment.
        backend: ``bubblewrap`` or ``landlock``; by default the first that works here.
        unsafe_local: where none does, run it without walls.

    Raises:
        CoveyError: no backend works here.
    """
    [name] = chosen(backend, unsafe_local, whole=True)
    return process.run(walls(name), program, stdin, limits or Limits())


def call(
    program: str,
    function: str,
    inputs: Iterable[Sequence[Value]],
    *,
    limits: Limits | None = None,
    backend: str | None = None,
    unsafe_local: bool = False,
) -> list[Value | Failure]:
    """What a program's function returns for each list of arguments, in order, in one fresh process.

    After a failure that ends the process (anything but an exception) the remaining ones fail alike.

    Raises:
        CoveyError: no backend works here, or the function's name is none.
        TypeError: an argument isn't plain.
    """
    inputs = [list(args) for args in inputs]
    to_wire([_name(function), inputs])

    def attempt(name: Backend, limits: Limits) -> list[Value | Failure]:
        with _open(name, "program", program, limits) as session:
            failed = session.load()
            return [failed if failed else session.call(function, args, {}) for args in inputs]

    return _decide(
        chosen(backend, unsafe_local),
        limits or Limits(),
        [program],
        attempt,
        final=lambda values: not any(isinstance(value, Failure) for value in values),
    )


def check(
    program: str,
    tests: str,
    function: str,
    *,
    limits: Limits | None = None,
    backend: str | None = None,
    unsafe_local: bool = False,
) -> Failure | None:
    """Does the program pass its tests? None when it does, else why not.

    Args:
        tests: a program of its own that defines ``check(candidate)`` and asserts what it has to. It runs
            in a second sandbox. There ``candidate``, and the name ``function``, are the tested
            function: each call of them is computed by the program, in the first. Arguments and results are
            plain values, so what a call does to its arguments isn't seen.
        function: the tested function's name in the program.

    Raises:
        CoveyError: no backend works here, or the function's name is none.
    """

    def attempt(name: Backend, limits: Limits) -> Failure | None:
        tested = Tested(_name(function))
        with (
            _open(name, "program", program, limits) as tested.session,
            _open(name, "tests", f"{tests}\n{RUN}", limits, {function: tested, CANDIDATE: tested}) as judge,
        ):
            if broken := judge.load():
                return Failure("tests", str(broken))
            if failed := tested.session.load():
                return failed
            result = judge.call("__check__", [], {})
        if tested.broken is None and isinstance(result, Failure) and result.exception == "AssertionError":
            return Failure("wrong", result.detail)
        return tested.broken or (result if isinstance(result, Failure) else None)

    return _decide(
        chosen(backend, unsafe_local),
        limits or Limits(),
        [program, tests],
        attempt,
        final=lambda failed: failed is None or failed.kind == "wrong",
    )


CANDIDATE = "__candidate__"
RUN = f"\nassert check\ndef __check__():\n    check({CANDIDATE})\n"  # without a check, they don't load


class Tested:
    """The tested function, as the tests see it."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.session: Session
        self.broken: Failure | None = None

    def __call__(self, *args: Value, **kwargs: Value) -> Value:
        result = self.broken or self.session.call(self.function, args, kwargs)
        if not isinstance(result, Failure):
            return result
        if result.kind != "raised":
            self.broken = result  # whatever the tests make of it
        raise exception(result)


def _name(function: str) -> str:
    if not function.isidentifier() or keyword.iskeyword(function):
        raise CoveyError(f"{function!r} is no function's name")
    return function


def _open(
    name: Backend, role: str, program: str, limits: Limits, hosts: Mapping[str, Host] | None = None
) -> Session:
    if name == "monty":
        return monty.Worker(role, program, limits, hosts)
    return Interpreter(walls(name), program, limits, hosts)


def _decide(
    names: Sequence[Backend],
    limits: Limits,
    texts: Sequence[str],
    attempt: Callable[[Backend, Limits], T],
    final: Callable[[T], bool],
) -> T:
    """Monty's result where it is final, else CPython's, else what there is."""
    *first, last = names
    if first and all(map(faithful, texts)):
        result = attempt("monty", replace(limits, seconds=min(limits.seconds, MONTY_SECONDS)))
        if final(result):
            return result
    return attempt(last, limits)
