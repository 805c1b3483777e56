"""Runs that several files look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.build import train
from small_run import small


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbs."""
    return train(small(), tmp_path_factory.mktemp("whole") / "run").run
