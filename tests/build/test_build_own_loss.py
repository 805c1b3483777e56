"""A loss of one's own, named in a recipe: trained with, recorded, and recomputed when that is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.audit.verify import verify
from covey.build import assemble
from covey.build.run import train
from covey.types import CoveyError
from small_run import small

ROOT = Path(__file__).parents[2]
SQUARED = f"{ROOT / 'examples' / 'own_loss.py'}:squared"
OWN = {"surrogate": {"name": SQUARED, "strength": 0.5}, "aggregation": "token_mean"}


def test_it_is_the_function_that_the_recipe_names() -> None:
    surrogate = assemble.prepare(small(algorithm=OWN)).algorithm.surrogate
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
        assemble.prepare(small(algorithm={"surrogate": surrogate}))


def test_a_run_with_it_is_verified_once_its_code_is_allowed(tmp_path: Path) -> None:
    train(small(algorithm=OWN, steps=2), tmp_path / "run")
    with pytest.raises(CoveyError, match=r"squared' is the author's own code; --own-code runs it"):
        verify(tmp_path / "run")
    assert verify(tmp_path / "run", own_code=True).ok
