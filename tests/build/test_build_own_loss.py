"""A loss of one's own, named in a recipe: trained with, recorded, and recomputed when that is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from covey.audit.verify import verify
from covey.build import assemble
from covey.build.run import train
from covey.config import parse
from covey.types import CoveyError

ROOT = Path(__file__).parents[2]
SQUARED = f"{ROOT / 'examples' / 'own_loss.py'}:squared"
VALUES: dict[str, Any] = {
    "steps": 2,
    "threads": 1,
    "model": {
        "config": {"family": "llama", "hidden_size": 16, "heads": 2, "kv_heads": 1, "intermediate_size": 16},
        "dtype": "float32",
    },
    "task": {"name": "arithmetic", "low": 0, "high": 9, "prompt": "{a}{op}{b}="},
    "reward": {"name": "exact"},
    "algorithm": {"surrogate": {"name": SQUARED, "strength": 0.5}, "aggregation": "token_mean"},
    "rollout": {"problems_per_step": 4, "group_size": 4, "max_new_tokens": 3},
    "eval": {"problems": 2, "samples": 1},
}


def with_surrogate(surrogate: object) -> dict[str, Any]:
    return {**VALUES, "algorithm": {"surrogate": surrogate}}


def test_it_is_the_function_that_the_recipe_names() -> None:
    surrogate = assemble.prepare(parse(VALUES)).algorithm.surrogate
    assert (surrogate.label, dict(surrogate.params)) == ("squared", {"strength": 0.5})


@pytest.mark.parametrize(
    ("surrogate", "said"),
    [
        ("nowhere.py:f", r"\[algorithm.surrogate\] there is no file nowhere.py"),
        (SQUARED.replace("squared", "square"), r"has no 'square'; did you mean 'squared'\?"),
        ({"name": SQUARED, "strenght": 1.0}, r"no parameter 'strenght'; did you mean 'strength'\?"),
    ],
)
def test_a_slip_is_told_before_anything_is_loaded(surrogate: object, said: str) -> None:
    with pytest.raises(CoveyError, match=said):
        assemble.prepare(parse(with_surrogate(surrogate)))


def test_a_run_with_it_is_verified_once_its_code_is_allowed(tmp_path: Path) -> None:
    train(parse(VALUES), tmp_path / "run")
    with pytest.raises(CoveyError, match=r"squared' is the author's own code; --own-code runs it"):
        verify(tmp_path / "run")
    assert verify(tmp_path / "run", own_code=True).ok
