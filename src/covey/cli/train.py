"""``covey train RECIPE``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from covey.cli.options import Overrides, recipe_of


def train(
    recipe: Path,
    *overrides: Overrides,
    run: Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    quiet: bool = False,
    json: bool = False,
    plain: bool = False,
) -> None:
    """Train a model as a recipe says.

    Parameters
    ----------
    recipe
        A TOML file; see recipes/.
    overrides
        Keys of the recipe, as --rollout.group-size 4.
    run
        The run directory, which must not exist yet; runs/<recipe>-<time> when absent.
    steps
        Steps: a rollout each, and what is learned from it.
    seed
        The run's seed.
    quiet
        Print only the result.
    json
        Print one JSON object a line.
    plain
        One line a step, no live view.
    """
    settled = recipe_of(str(recipe), overrides, steps=steps, seed=seed)
    where = run or Path("runs") / f"{recipe.stem}-{datetime.now():%Y%m%d-%H%M%S}"
    # torch and transformers take seconds to import: a wrong recipe is told before
    from covey.build import train as train_run
    from covey.view.terminal import make_view

    mode = "json" if json else "quiet" if quiet else "plain" if plain else "auto"
    train_run(settled, where, view=make_view(mode))
