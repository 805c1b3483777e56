"""Which sandboxes this machine offers: each is tried once, with a program that tries to break out."""

from __future__ import annotations

import difflib
import functools
import os
import platform
import tempfile
from typing import Literal, TypeAlias

from covey.sandbox import confinement, monty
from covey.sandbox.confinement import Confinement
from covey.sandbox.outcome import Failure, Limits
from covey.sandbox.session import Interpreter
from covey.types import CoveyError

Backend: TypeAlias = Literal["monty", "bubblewrap", "landlock", "local"]
CPYTHON: tuple[Backend, ...] = ("bubblewrap", "landlock")

ALLOW = "let untrusted code run with your own rights: unsafe_local = true, or --unsafe-local"

PROBE = """
import os, socket

def tried(attempt):
    try:
        attempt()
        return True
    except OSError:
        return False

def escapes(path):
    return [
        tried(lambda: open(path)),
        tried(lambda: open("/tmp/covey-probe", "w")),
        tried(lambda: socket.socket()),
        tried(lambda: os.fork() or os._exit(0)),
    ]
"""


@functools.cache
def confined(backend: Backend) -> Confinement | str:
    """How to start a CPython in this backend, or why it can't be on this machine."""
    made = {"bubblewrap": confinement.bubblewrap, "landlock": confinement.landlock}[backend]()
    if isinstance(made, str):
        return made
    with tempfile.NamedTemporaryFile() as secret, Interpreter(made, PROBE, Limits(seconds=10)) as session:
        try:
            found = session.load() or session.call("escapes", [os.path.realpath(secret.name)], {})
        except CoveyError as error:
            return str(error)
    if found == [False] * 4:
        return made
    return f"it lets programs out: {found}" if not isinstance(found, Failure) else str(found)


@functools.cache
def missing(backend: Backend) -> str | None:
    """Why this backend doesn't work here; None when it does."""
    if backend == "local":
        return None
    if backend != "monty":
        found = confined(backend)
        return found if isinstance(found, str) else None
    if monty.version() is None:
        return "pydantic-monty is not installed (pip install 'covey[sandbox]')"
    try:
        with monty.Worker("program", "def add(a, b):\n    return a + b", Limits()) as session:
            found = session.load() or session.call("add", [1, 2], {})
    except (OSError, RuntimeError) as error:  # its program isn't there, or doesn't run here
        return str(error)
    return None if found == 3 else f"1 + 2 is {found} in it"


def chosen(backend: str | None, unsafe_local: bool, *, whole: bool = False) -> tuple[Backend, ...]:
    """The backends to use, the first to be asked first.

    By default monty for functions, where it is installed, and the strongest walls around CPython that
    hold here. ``whole`` programs are CPython's. ``unsafe_local`` is what is left when nothing holds.

    Raises:
        CoveyError: there is none, or the one that was asked for doesn't work here.
    """
    known: tuple[Backend, ...] = CPYTHON if whole else ("monty", *CPYTHON)
    if backend is not None:
        return (_asked_for(backend, known, unsafe_local),)
    pure: tuple[Backend, ...] = () if whole or missing("monty") else ("monty",)
    around = next(filter(_works, CPYTHON), None) or ("local" if unsafe_local else None)
    if around is not None:
        return (*pure, around)
    if not pure:
        why = "; ".join(f"{name}: {missing(name)}" for name in known)
        raise CoveyError(f"no sandbox for untrusted code works here ({why}). Install one, or {ALLOW}")
    return pure


def _asked_for(backend: str, known: tuple[Backend, ...], unsafe_local: bool) -> Backend:
    if backend == "local":
        if not unsafe_local:
            raise CoveyError(f"the sandbox local has no walls: {ALLOW}")
        return "local"
    for name in known:
        if name == backend:
            if reason := missing(name):
                raise CoveyError(f"the sandbox {name} doesn't work here: {reason}")
            return name
    near = difflib.get_close_matches(backend, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise CoveyError(f"no sandbox {backend!r} for this.{hint} There are: {', '.join(known)}, local")


def _works(backend: Backend) -> bool:
    return missing(backend) is None


def walls(backend: Backend) -> Confinement:
    """The CPython behind a backend's name that `chosen` gave."""
    found = confinement.local() if backend == "local" else confined(backend)
    assert isinstance(found, Confinement)
    return found


def describe(unsafe_local: bool = False, *, whole: bool = False) -> str:
    """Where untrusted code runs on this machine, in one line to be said once. ``whole``: whole programs.

    Raises:
        CoveyError: nowhere.
    """
    found = chosen(None, unsafe_local, whole=whole)
    python = f"CPython {platform.python_version()}"
    words = {
        "monty": f"pydantic-monty {monty.version()} for functions",
        "bubblewrap": f"{python} under bubblewrap",
        "landlock": f"{python} under Landlock and seccomp",
        "local": f"{python} WITHOUT WALLS, under your own rights",
    }
    return "untrusted code runs in " + ", then ".join(words[name] for name in found)
