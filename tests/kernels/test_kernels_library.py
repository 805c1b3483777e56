"""Kernels are built once, found again, and done without where they can't be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from covey import kernels
from covey.kernels import library

LOGITS = """
from covey import kernels
from covey.models import load_policy
from covey.models.check import plain_logits
policy = load_policy({"family": "llama", "seed": 1}, dtype="float32")
assert policy.dense is None, "kernels are in use"
print(kernels.why_not())
"""


def told(**variables: str) -> str:
    """What a fresh process says of its kernels."""
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-c", LOGITS], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_they_can_be_switched_off() -> None:
    assert told(COVEY_KERNELS="off") == "COVEY_KERNELS is off"


def test_without_a_compiler_everything_runs_on_torch(tmp_path: Path) -> None:
    assert "no C++ compiler" in told(CXX=str(tmp_path / "none"), COVEY_CACHE=str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are built on Linux only")
def test_a_compiler_that_fails_is_quoted_and_done_without(tmp_path: Path) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'no such architecture' >&2\nexit 1\n")
    broken.chmod(0o755)
    said = told(CXX=str(broken), COVEY_CACHE=str(tmp_path / "cache"))
    assert said == "building them failed: no such architecture"
    assert not list((tmp_path / "cache" / "kernels").iterdir())  # nothing half made is left


@pytest.mark.skipif(kernels.why_not() is not None, reason=f"no kernels: {kernels.why_not()}")
def test_they_are_named_by_what_they_are_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    name = kernels.identity()
    assert name is not None
    assert name.startswith("native ")
    compiler = library._compiler()
    assert compiler is not None
    here = library._key(compiler)
    monkeypatch.setattr(library, "_processor", lambda: "another processor")
    library._key.cache_clear()
    try:
        assert library._key(compiler) != here
    finally:
        library._key.cache_clear()
