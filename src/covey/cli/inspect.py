"""``covey plan RECIPE`` and ``covey doctor``: looking before leaping."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Any

from covey.cli.options import Overrides, recipe_of


def plan(
    recipe: Path, *overrides: Overrides, steps: int | None = None, seed: int | None = None, json: bool = False
) -> None:
    """Show what a recipe resolves to, what it will cost and what the model will read. Trains nothing.

    Parameters
    ----------
    recipe
        A TOML file; see recipes/.
    overrides
        Keys of the recipe, as --rollout.group-size 4.
    steps
        Steps: a rollout each, and what is learned from it.
    seed
        The run's seed.
    json
        Print one JSON object.
    """
    settled = recipe_of(str(recipe), overrides, steps=steps, seed=seed)
    from covey.build.plan import plan as plan_of

    planned = plan_of(settled)
    if json:
        print(jsonlib.dumps(planned))
        return
    prompts = planned.pop("prompts")
    for section, values in planned.items():
        print(f"[{section}]")
        for key, value in _lines(values):
            print(f"  {key:32} {value}")
    for number, prompt in enumerate(prompts, 1):
        print(f"[prompt {number}: {prompt['tokens']} tokens]\n{prompt['text']}")


def doctor() -> int:
    """Examine the machine and recompute a batch; exit code 1 when something is wrong."""
    from covey.build.doctor import examine

    bad = 0
    for finding in examine():
        mark = {True: "ok", False: "!!", None: "  "}[finding.ok]
        bad += finding.ok is False
        print(f"{mark} {finding.name:16} {finding.detail}")
    return 1 if bad else 0


def _lines(values: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            lines += _lines(value, f"{before}{key}.")
        elif value is not None:
            lines.append((before + key, str(value)))
    return lines
