"""The Python that runs untrusted code, and what of the file system it has to read."""

from __future__ import annotations

import functools
import glob
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
"""All that a program finds in its environment. Sets of strings have the same order every time."""

FLAGS = ("-s", "-S", "-P", "-B")  # the standard library only, nothing from the working directory, no bytecode
DRIVER = (Path(__file__).parent / "child.py").read_text(encoding="utf-8")

_LIBRARIES = "import _ctypes, _hashlib, _ssl, zlib; print(open('/proc/self/maps').read())"


@functools.cache
def executable() -> str:
    """The interpreter itself, behind a virtual environment and its links."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def command(reading: int, writing: int) -> list[str]:
    """Starts the driver, which speaks over two inherited file descriptors."""
    return [executable(), *FLAGS, "-c", DRIVER, str(reading), str(writing)]


@functools.cache
def readable() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folders and files the interpreter reads, and the folders among them that it must not.

    Those are the folders of installed packages: a data set with its answers may be one of them.
    """
    maps = subprocess.run(
        [executable(), *FLAGS, "-c", _LIBRARIES], capture_output=True, check=False, text=True, env=ENVIRONMENT
    ).stdout
    libraries = {os.path.dirname(line.split()[-1]) for line in maps.splitlines() if ".so" in line}
    base = {"platbase": sys.base_exec_prefix}  # and not the virtual environment's
    standard = {os.path.realpath(sysconfig.get_path(name, vars=base)) for name in ("stdlib", "platstdlib")}
    loaders = {
        os.path.join(os.path.realpath(folder), os.path.basename(path))
        for folder in ("/lib", "/lib64")
        for path in glob.glob(f"{folder}/ld-*.so*")
    }
    wanted = sorted({executable(), *loaders, *standard, *libraries})
    roots = tuple(path for path in wanted if not any(path.startswith(f"{other}/") for other in wanted))
    patterns = ("{0}/{1}-packages", "{0}/python3*/{1}-packages")
    packages = {
        found
        for root in (*roots, *standard)
        for kind in ("site", "dist")
        for pattern in patterns
        for found in glob.glob(pattern.format(glob.escape(root), kind))
    }
    return roots, tuple(sorted(packages))


@functools.cache
def rules() -> dict[str, bool]:
    """The same for a system that can allow and not except: each path, and whether all below it is readable.

    A folder that holds packages is only listed, and its other entries have rules of their own.
    """
    roots, hidden = readable()
    allowed: dict[str, bool] = {}

    def visit(path: str) -> None:
        if path in hidden:
            return
        allowed[path] = not any(other.startswith(f"{path}/") for other in hidden)
        if not allowed[path]:
            for entry in os.scandir(path):
                if not entry.is_symlink():
                    visit(entry.path)

    for root in roots:
        visit(root)
    return allowed
