"""The front door: what `import covey` offers, and what it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import covey
from walls import ROOT, read


def test_what_covey_offers_outlives_the_rooms_behind_it() -> None:
    """Importing a room binds its name in the package, over a function of the same name."""
    for name in set(covey.__all__) & set(read(ROOT / "architecture.toml").rooms):
        importlib.import_module(f"covey.{name}")
    lost = [name for name in covey.__all__ if not callable(getattr(covey, name))]
    assert not lost, f"covey.{lost[0]} is no longer what covey/__init__.py defines, but the room"


def test_import_covey_is_light() -> None:
    """A shell's completion and a recipe's check must not wait for torch."""
    heavy = "{'torch', 'transformers', 'datasets', 'numpy'}"
    program = f"import sys, covey; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        cwd=ROOT / "src",
    )
    assert done.stdout.strip() == "[]"
