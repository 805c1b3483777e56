"""The walls around CPython: bubblewrap, or Landlock with seccomp, or none when the user says so."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covey.sandbox import interpreter
from covey.sandbox.filter import instructions


@dataclass(frozen=True)
class Confinement:
    """How a confined interpreter is started.

    ``prefix`` is put before its command. ``filter`` is handed to that prefix as ``--seccomp FD``.
    ``inside`` is what the driver applies to itself before it loads a program.
    """

    name: str
    prefix: tuple[str, ...] = ()
    filter: bytes | None = None
    inside: dict[str, Any] | None = None


def bubblewrap() -> Confinement | str:
    """New namespaces of every kind, an empty read-only root with the interpreter in it, and seccomp.

    Returns why it can't be, when it can't.
    """
    program, code = shutil.which("bwrap"), instructions(starting=True)
    if program is None:
        return "bwrap is not installed (Debian, Ubuntu, Fedora: the package bubblewrap)"
    if code is None:
        return f"no seccomp filter for {platform.machine()}"
    roots, hidden = interpreter.readable()
    links = [folder for folder in ("/lib", "/lib64", "/bin") if os.path.islink(folder)]
    prefix = [
        *(program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
        *(part for folder in links for part in ("--symlink", os.readlink(folder), folder)),
        *(part for path in roots for part in ("--ro-bind", path, path)),
        *(part for path in hidden for part in ("--tmpfs", path, "--remount-ro", path)),
        *("--remount-ro", "/", "--chdir", "/"),
    ]
    return Confinement("bubblewrap", tuple(prefix), filter=code)


def landlock() -> Confinement | str:
    """Landlock for files, seccomp for everything else, no capabilities: applied by the driver to itself."""
    code = instructions(starting=False)
    if sys.platform != "linux":
        return f"a part of Linux, and this is {platform.system()}"
    if code is None:
        return f"no seccomp filter for {platform.machine()}"
    text = (Path(__file__).parent / "confine.py").read_text(encoding="utf-8")
    inside = {"text": text, "paths": interpreter.rules(), "filter": code.hex()}
    return Confinement("landlock", inside=inside)


def local() -> Confinement:
    """Limits on time and memory, and no wall at all."""
    return Confinement("local")
