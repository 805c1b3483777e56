"""``covey eval TARGET``."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covey.cli.options import Overrides
from covey.view.text import safe


def evaluate(target: Path, *overrides: Overrides, json: bool = False) -> None:
    """Measure a model on held-out problems, greedy and sampled, with intervals.

    Parameters
    ----------
    target
        A run directory (its trained model is measured) or a recipe (its model is).
    overrides
        Keys of the recipe, as --eval.problems 256.
    json
        Print one JSON object.
    """
    from covey.build.measure import measure, recipe_of_target
    from covey.records.numbers import spell

    result = measure(recipe_of_target(target, overrides))
    if json:
        print(jsonlib.dumps(spell(result)))
        return
    _print(result)
    for label, part in result.get("parts", {}).items():
        print(f"\n{safe(label)}")
        _print(part)


def _print(measured: Mapping[str, Any]) -> None:
    for kind in ("greedy", "sampled"):
        at = measured[kind]
        shown = (
            "not scored" if at["mean"] is None else f"{at['mean']:.3f}  [{at['low']:.3f}, {at['high']:.3f}]"
        )
        print(f"{kind:8} {shown}")
    print(
        f"{measured['problems']} problems, {measured['completions']} completions: {measured['unscored']} "
        f"unscored, {measured['truncated']} truncated; 95 % intervals over problems"
    )
