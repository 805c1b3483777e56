"""The shipped example of an own loss is one function and one literal, and runs."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_loss.py"


def test_the_example_prints_its_losses_and_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    # Â = ±½, log r = 0 or ½, strength ½: loss ∓¼ + ¼·¼; gradient (∓½ + ½·½)/4 where it moved
    assert capsys.readouterr().out.splitlines() == [
        "loss of each token  [0.0, -0.1875, 0.0, 0.3125]",
        "gradient            [-0.125, -0.0625, 0.125, 0.1875]",
    ]


def test_its_parameters_are_checked_like_any_other() -> None:
    own = runpy.run_path(str(EXAMPLE))
    with pytest.raises(
        ValueError, match="surrogate 'squared' has no parameter 'strenght'; did you mean 'strength'"
    ):
        own["OWN"].replace(surrogate={"name": own["squared"], "strenght": 1.0})
