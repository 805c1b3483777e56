"""Measuring a model on a task's held-out problems, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from covey.build import assemble
from covey.config import Recipe, load, parse, part_labels
from covey.evals.outcome import measured
from covey.records import RunReader
from covey.types import CoveyError


def recipe_of_target(target: Path, overrides: tuple[str, ...]) -> Recipe:
    """The recipe to measure: a TOML file's, or a run's with the model that it trained."""
    if target.is_dir():
        values = RunReader(target).recipe()
        if not (target / "model").is_dir():
            raise CoveyError(f"{target} has no trained model yet (no folder {target / 'model'})")
        values["model"] = {**values["model"], "name": str(target / "model"), "config": None}
        return parse(values, overrides, where=str(target / "manifest.json"))
    return load(target, overrides)


def measure(recipe: Recipe) -> dict[str, Any]:
    """`evals.outcome.measured` of the recipe's model on its held-out problems. Raises CoveyError."""
    with assemble.prepared(recipe) as parts:
        if not parts.heldout:
            raise CoveyError(
                f"[task] {recipe.task.name!r} holds no problems out: there is nothing to measure on"
            )
        policy = assemble.policy_of(recipe)
        assemble.longest_prompt(parts, policy)
        evaluator = assemble.evaluator_of(parts, policy, assemble.engine_of(recipe, policy))
        assert evaluator is not None
        return measured(evaluator.measure(0), part_labels(recipe.task))
