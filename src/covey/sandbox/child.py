"""What runs inside a confined interpreter, and the one form in which values cross its wall.

The parent gives this file's text to a bare interpreter and talks with it over two pipes, a line of JSON
each way. Nothing here needs to be trusted once the program is loaded: whatever the program does to it,
all that can come out is a wrong value, and the parent compares values with what it never told.

Plain values are None, bool, int, float, str, list, tuple, dict and set, of exactly these types all the
way down (defaultdict, Counter and OrderedDict count as the dict they hold). Anything else has no form.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import sys
from collections import Counter
from types import ModuleType
from typing import Any

MESSAGE_CHARACTERS = 300
CHECKED_KEYS = 1000  # from this many on, keys of one container are looked at before they are hashed into it
COLLISIONS = 50  # so many equal hashes are no accident, and would make the reader's time quadratic


def to_wire(value: Any) -> Any:
    """A plain value as JSON has it; what JSON lacks is an object of one key, the type's name.

    Raises:
        TypeError: it isn't plain.
        RecursionError: it is nested too deeply, or contains itself.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -(2**63) < value < 2**63 else {"int": hex(value)}
    if kind is float:
        return value if value - value == 0 else {"float": repr(value)}  # not so for inf and nan
    if kind is list:
        return [to_wire(item) for item in value]
    if kind is tuple or kind is set:
        return {kind.__name__: [to_wire(item) for item in value]}
    as_dict = kind.__name__ in ("defaultdict", "Counter", "OrderedDict") and isinstance(value, dict)
    if kind is dict or as_dict:
        return {"dict": [[to_wire(key), to_wire(item)] for key, item in value.items()]}
    raise TypeError(f"a {kind.__name__} is no plain value")


def from_wire(data: Any) -> Any:
    """The plain value behind `to_wire`'s form, which may come from hostile hands.

    Raises:
        TypeError, ValueError, RecursionError: it is no such form.
    """
    if isinstance(data, list):
        return [from_wire(item) for item in data]
    if not isinstance(data, dict):
        return data
    [(kind, content)] = data.items()
    match kind:
        case "int":
            return int(content, 16)
        case "float" if content in ("nan", "inf", "-inf"):
            return float(content)
        case "tuple":
            return tuple(from_wire(content))
        case "set":
            return set(_spread(from_wire(content)))
        case "dict":
            pairs = [(from_wire(key), from_wire(item)) for key, item in content]
            _spread([key for key, _ in pairs])
            return dict(pairs)
    raise ValueError(f"{kind!r} is no form of a plain value")


def _spread(keys: list[Any]) -> list[Any]:
    """The keys themselves, unless they were made to collide: the hash of a number is no secret."""
    if len(keys) > CHECKED_KEYS and max(Counter(map(hash, keys)).values()) > COLLISIONS:
        raise ValueError("keys that collide")
    return keys


class Text(importlib.machinery.SourceFileLoader):
    """Imports a module from its text, without a file."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, f"{name.strip('_')}.py")
        self.text = text

    def get_data(self, path: str) -> bytes:
        return self.text.encode("utf-8", "surrogatepass")

    def path_stats(self, path: str) -> Any:
        raise OSError("no file, so nothing to cache")


def load(name: str, text: str) -> ModuleType:
    """The module of this text, registered under its name."""
    module = sys.modules[name] = ModuleType(name)
    module.__loader__ = loader = Text(name, text)
    module.__file__ = loader.path
    loader.exec_module(module)
    return module


class Channel:
    """The two pipes to the parent."""

    def __init__(self, reading: int, writing: int) -> None:
        self.lines = os.fdopen(reading, "rb")
        self.writing = writing

    def receive(self) -> Any:
        """The next message; the parent's end closed is the end."""
        line = self.lines.readline()
        return json.loads(line) if line else sys.exit()

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self.writing, data) :]


def failure(error: BaseException) -> dict[str, str]:
    """An exception as a message: its nearest built-in class, and its own name and text."""
    known = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    try:
        text = str(error)
    except Exception:  # a program's own __str__ may do anything
        text = ""
    return {"raised": known, "name": type(error).__name__, "text": text[:MESSAGE_CHARACTERS]}


def limit(seconds: float, memory: int, output: int) -> None:
    """Lower this process's own limits, for good."""
    import resource

    for which, most in (
        (resource.RLIMIT_CPU, int(seconds) + 2),
        (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory),
    ):
        hard = resource.getrlimit(which)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(which, (most, most))
        except (OSError, ValueError):
            if sys.platform == "linux":  # elsewhere a kernel may not know all of them
                raise


def run(channel: Channel, program: str) -> None:
    """The program as ``__main__``, its traceback on stderr as the interpreter would print it."""
    try:
        load("__main__", program)
    except SystemExit:
        raise
    except BaseException as error:  # the program's failure becomes data
        while error.__traceback__ and error.__traceback__.tb_frame.f_code.co_filename != "main.py":
            error.__traceback__ = error.__traceback__.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        channel.send(failure(error))
        sys.exit(1)


def serve(channel: Channel, program: str, asked: list[str]) -> None:
    """Answer calls of the program's functions, one at a time, until the parent hangs up.

    The names in ``asked`` become functions that live elsewhere: each call of them is a question to
    the parent.
    """
    module = sys.modules["program"] = ModuleType("program")
    while True:
        message = channel.receive()
        try:
            match message:
                case {"call": name}:
                    arguments = from_wire(message["args"]), from_wire(message["kwargs"])
                    value = getattr(module, name)(*arguments[0], **arguments[1])
                case _:
                    module, value = load("program", program), None
                    for name in asked:
                        setattr(module, name, _elsewhere(channel, name))
        except BaseException as error:  # the program's failure becomes data
            answer = failure(error)
        else:
            try:
                answer = {"value": to_wire(value)}
            except (TypeError, RecursionError) as error:
                answer = {"opaque": str(error)[:MESSAGE_CHARACTERS]}
        channel.send({"id": message["id"], **answer})


def _elsewhere(channel: Channel, name: str) -> Any:
    def ask(*args: object, **kwargs: object) -> object:
        channel.send({"ask": name, "args": to_wire(list(args)), "kwargs": to_wire(kwargs)})
        answer = channel.receive()
        if "raised" in answer:
            raise getattr(sys.modules["builtins"], answer["raised"])(answer["text"])
        return from_wire(answer["value"])

    return ask


def main() -> None:
    channel = Channel(int(sys.argv[1]), int(sys.argv[2]))
    order = channel.receive()
    limit(**order["limits"])
    if confinement := order["confinement"]:
        load("confine", confinement["text"]).confine(confinement["paths"], confinement["filter"])
    if "random" in order["program"]:  # the same program draws the same numbers, every time
        import random

        random.seed(0)
    channel.send({"ready": True})
    if order["main"]:
        run(channel, order["program"])
    else:
        serve(channel, order["program"], order["asked"])


if __name__ == "__main__":
    main()
