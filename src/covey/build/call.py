"""`covey.train` and `covey.resume` from Python: recipe values and live objects, side by side."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covey.build.resume import resume
from covey.build.run import Result, train
from covey.config import Recipe, parse, read
from covey.rewards.foreign import reward_of
from covey.view.terminal import make_view


def train_call(
    recipe: str | Path | Recipe | None,
    run: Path,
    model: Any,
    task: Any,
    reward: Any,
    view: str,
    sections: Mapping[str, Any],
) -> Result:
    """See `covey.train`. What is given here stands over the recipe's."""
    values = recipe.model_dump() if isinstance(recipe, Recipe) else read(recipe) if recipe else {}
    if model is not None:
        values["model"] = {"name": str(model)} if isinstance(model, str | Path) else dict(model)
    live: dict[str, Any] = {}
    for key, given in (("task", task), ("reward", reward)):
        if isinstance(given, str | Mapping):
            values[key] = given
        elif given is not None:
            values[key] = {"name": _label(given)}
            live[key] = _part(given)
    for key, value in sections.items():
        old = values.get(key)
        values[key] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return train(parse(values, where="covey.train"), run, view=make_view(view), **live)


def resume_call(run: Path, steps: int | None, task: Any, reward: Any, view: str) -> Result:
    """See `covey.resume`."""
    live = {key: _part(given) for key, given in (("task", task), ("reward", reward)) if given is not None}
    return resume(run, steps=steps, view=make_view(view), **live)


def _part(given: Any) -> Any:
    return reward_of(given) if inspect.isroutine(given) else given


def _label(thing: Any) -> str:
    """How the record names an object that was given instead of a name."""
    named = thing if inspect.isroutine(thing) or inspect.isclass(thing) else type(thing)
    return f"{named.__module__}:{named.__qualname__}"
