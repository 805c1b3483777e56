"""Calls of a program's functions, in a fresh process a program: plain values in, a plain value out."""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from covey.sandbox.channel import Ended
from covey.sandbox.child import failure, from_wire, to_wire
from covey.sandbox.confinement import Confinement
from covey.sandbox.outcome import Failure, Limits, Value
from covey.sandbox.process import Process

DETAIL_CHARACTERS = 300

Host = Callable[..., Value]
"""A function that a program may call and that runs out here. It may raise built-in exceptions."""


class Session(AbstractContextManager["Session"], Protocol):
    """A program that answers calls. As a context, nothing of it is left when the block ends."""

    def load(self) -> Failure | None:
        """Run the program's text, or say why that failed. Raises CoveyError when the sandbox fails."""
        ...

    def call(self, function: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value | Failure:
        """What the function returns for these arguments. After any failure but ``raised`` it is over."""
        ...


class Interpreter:
    """A `Session` in a confined CPython. ``hosts`` take the place of the program's functions of that name."""

    def __init__(
        self, confinement: Confinement, program: str, limits: Limits, hosts: Mapping[str, Host] | None = None
    ) -> None:
        self.hosts = hosts or {}
        order = {"program": program, "main": False, "asked": list(self.hosts)}
        self.process = Process(confinement, order, limits)
        self.over: Failure | None = None

    def load(self) -> Failure | None:
        self.process.start()
        loaded = self._ask({"load": True})
        return loaded if isinstance(loaded, Failure) else None

    def call(self, function: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value | Failure:
        return self._ask({"call": function, "args": to_wire(list(args)), "kwargs": to_wire(dict(kwargs))})

    def _ask(self, question: Mapping[str, Any]) -> Value | Failure:
        if self.over is not None:
            return self.over
        # A number that can't be guessed, so that no answer can lie in the pipe before its question.
        nonce = secrets.token_hex(8)
        message: Mapping[str, Any] = {"id": nonce, **question}
        try:
            while "ask" in (answer := self.process.exchange(message)):
                message = self._consult(answer)
            if answer.get("id") != nonce:
                raise Ended(Failure("garbled", "an answer to no question"))
            result = result_of(answer)
        except Ended as end:
            self.over = result = end.failure
            self.process.kill()
        return result

    def _consult(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """A host function's answer to the program's call of it."""
        name = question["ask"]
        if not isinstance(name, str) or name not in self.hosts:
            raise Ended(Failure("garbled", "a question to nobody"))
        try:
            args, kwargs = from_wire(question["args"]), from_wire(question["kwargs"])
            return {"value": to_wire(self.hosts[name](*args, **kwargs))}
        except Exception as error:  # the program's to handle, as if the function were its own
            return failure(error)

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.__exit__()


def result_of(answer: Mapping[str, Any]) -> Value | Failure:
    """The value or the failure in an answer, which may come from hostile hands.

    Raises:
        Ended: it has neither.
    """
    match answer:
        case {"value": data}:
            try:
                return from_wire(data)
            except (TypeError, ValueError, RecursionError) as error:
                raise Ended(Failure("garbled", type(error).__name__)) from error
        case {"raised": "MemoryError"}:
            raise Ended(Failure("memory"))
        case {"raised": str(exception), "name": str(name), "text": str(text)}:
            return Failure("raised", f"{name}: {text}"[:DETAIL_CHARACTERS], exception)
        case {"opaque": str(detail)}:
            return Failure("opaque", detail[:DETAIL_CHARACTERS])
    raise Ended(Failure("garbled", "an answer without a value"))


def exception(failed: Failure) -> Exception:
    """What was raised, or the nearest built-in exception to it."""
    text = failed.detail.partition(": ")[2]
    kind = getattr(builtins, failed.exception, None)
    try:
        return kind(text) if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError(text)
    except TypeError:  # some take more than a text
        return RuntimeError(text)
