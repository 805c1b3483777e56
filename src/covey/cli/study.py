"""``covey study``: presets × seeds, and a table."""

from __future__ import annotations

from pathlib import Path

from covey.cli.options import Overrides, recipe_of
from covey.types import CoveyError


def study(
    recipe: Path,
    *overrides: Overrides,
    presets: str,
    seeds: str = "0,1,2",
    out: Path,
    steps: int | None = None,
    weights: bool = False,
    json: bool = False,
) -> None:
    """Train a recipe with several presets and seeds, and compare them on held-out problems.

    Parameters
    ----------
    recipe
        A TOML file; see recipes/.
    overrides
        Keys of the recipe, as --rollout.group-size 4.
    presets
        Names with commas between; differences are to the first.
    seeds
        Whole numbers with commas between.
    out
        Where runs, tables and curves go. What is finished there isn't trained again, what was
        stopped goes on.
    steps
        Steps of each run: a rollout each, and what is learned from it.
    weights
        Keep the models and checkpoints of finished runs, and not their records alone.
    json
        Print the JSON file's content instead of the table.
    """
    settled = recipe_of(str(recipe), overrides, steps=steps)
    names = [name.strip() for name in presets.split(",")]
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise CoveyError(f"--seeds takes whole numbers with commas between, not {seeds!r}") from None
    from covey.build.study import study as carry_out
    from covey.view.study import markdown

    told = _quiet if json else _told
    found = carry_out(settled, out, presets=names, seeds=numbers, weights=weights, told=told)
    if json:
        import json as jsonlib

        print(jsonlib.dumps(found))
    else:
        print(markdown(found), end="")


def _told(line: str) -> None:
    print(line, flush=True)


def _quiet(line: str) -> None:
    """Nothing is printed before the whole JSON object."""
