"""The compiled kernels: built once from `native.cpp` for this very processor, then kept.

A plain C interface and nothing of torch's own, so that building takes seconds and needs a C++ compiler
and no headers. Where there is none, there are no kernels, and everything runs on torch alone.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("native.cpp")
LAYOUT = Path(__file__).with_name("packed.py")
FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math",
    "-ffp-contract=fast", "-shared", "-fPIC",
)  # fmt: skip
"""No ``-ffast-math``: sums keep the order they are written in, and NaN stays NaN."""

TYPES = {torch.float32: 0, torch.bfloat16: 1}
"""What each kernel is told first: the type of its tensors."""

OFF = "COVEY_KERNELS"
"""Set to ``off``, this variable leaves the kernels out, to compare or to look for a fault."""


@functools.cache
def loaded() -> ctypes.CDLL | None:
    """The kernels, or None where they can't be had; `why_not` says why."""
    return _found()[0]


def why_not() -> str | None:
    """Why there are no kernels, or None when there are."""
    return _found()[1]


def identity() -> str | None:
    """Which kernels a run computes with, for its record: a hash of their source, of what built them, and of
    how matrices are laid out."""
    if loaded() is None:
        return None
    facts = _key(_compiler() or "") + LAYOUT.read_text("utf-8")
    return f"native {hashlib.sha256(facts.encode()).hexdigest()[:16]}"


@functools.cache
def _found() -> tuple[ctypes.CDLL | None, str | None]:
    if os.environ.get(OFF, "").lower() in ("off", "0", "no"):
        return None, f"{OFF} is off"
    if sys.platform != "linux":
        return None, "they are built on Linux only"
    compiler = _compiler()
    if compiler is None:
        return None, "there is no C++ compiler (c++, g++ or clang++)"
    try:
        return ctypes.CDLL(str(_built(compiler))), None
    except (OSError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return None, f"building them failed: {lines[0][:200] if lines else type(error).__name__}"


def _compiler() -> str | None:
    chosen = os.environ.get("CXX")
    names = (chosen,) if chosen else ("c++", "g++", "clang++")
    return next((found for name in names if (found := shutil.which(name))), None)


def _built(compiler: str) -> Path:
    kept = _cache() / f"native-{_key(compiler)[:32]}.so"
    if kept.exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # made aside and renamed whole, so that a run beside this one never loads a half
    with tempfile.TemporaryDirectory(prefix=".making-", dir=kept.parent) as scratch:
        made = Path(scratch) / kept.name
        command = [compiler, *FLAGS, *_wide(), "-o", str(made), str(SOURCE), *_threads()]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        os.replace(made, kept)
    return kept


def _wide() -> tuple[str, ...]:
    """Whole registers where the processor has 512 bits: compilers hold back by default."""
    return ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()


def _threads() -> tuple[str, ...]:
    """torch's own OpenMP, by file: a second one would bring a second set of threads to the same cores."""
    own = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    return (str(own[0]),) if own else ()


@functools.cache
def _key(compiler: str) -> str:
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        version = ""
    facts = (SOURCE.read_text("utf-8"), FLAGS, version, torch.__version__, _processor())
    return hashlib.sha256(repr(facts).encode()).hexdigest()


@functools.cache
def intel() -> bool:
    """Whether the processor is Intel's: MKL has ways of its own for these."""
    return "GenuineIntel" in _processor()


def _processor() -> str:
    """What ``-march=native`` would find: a cache may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    keys = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(x for x in lines if x.partition(":")[0].strip() in keys))


def _cache() -> Path:
    if chosen := os.environ.get("COVEY_CACHE"):
        return Path(chosen) / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "covey" / "kernels"
