"""The shipped example of an own reward runs and prints what it says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_reward.py"


def test_the_example_scores_its_replies(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    # three words too many: 1 - 0.1 × 3 = 0.7
    assert capsys.readouterr().out.splitlines() == ["1.00  83", "0.70  The answer is 83.", "0.00  82"]
