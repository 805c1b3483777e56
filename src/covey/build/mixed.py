"""A mixture's tasks and rewards, from its parts as a recipe writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from covey.config import Component, component_of, part_label
from covey.protocols import Reward, Task
from covey.rewards.by_part import ByPart
from covey.tasks.mixture import Mixture, Part
from covey.types import CoveyError

KEYS = ("task", "reward", "weight", "label")


def mixture(component: Component, build: Callable[[Component], Task]) -> Mixture:
    """``{name = "mixture", parts = [{task = …, reward = …, weight = 2.0}, …]}`` as a task; ``build`` makes
    each part's. The rewards are the recipe's concern. Raises CoveyError for what isn't one."""
    return Mixture(
        [_part(part, place, build) for place, part in enumerate(_parts("task", component), start=1)]
    )


def _part(part: Mapping[str, Any], place: int, build: Callable[[Component], Task]) -> Part:
    where = f"[task] 'mixture': part {place}"
    for key in part:
        if key not in KEYS:
            raise CoveyError(f"{where} has no key {key!r}; it takes: {', '.join(KEYS)}")
    weight = part.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise CoveyError(f"{where}: weight must be a number, not {weight!r}")
    if "task" not in part:
        raise CoveyError(f'{where} has no task; it is written {{ task = "arithmetic", reward = "number" }}')
    try:
        return Part(part_label(part), build(component_of(part["task"])), float(weight))
    except CoveyError as error:
        raise CoveyError(f"{error} ({where.removeprefix('[task] ')})") from error


def by_part(component: Component, build: Callable[[Component], Reward]) -> ByPart:
    """``{name = "by_part", parts = [{part = "sums", name = "number"}, …]}`` as a reward; ``build`` makes each
    part's. Raises CoveyError for what isn't one."""
    return ByPart({label: build(reward) for label, reward in rewards_of(component).items()})


def rewards_of(component: Component) -> dict[str, Component]:
    """The rewards of a `by_part`, by their part's label."""
    found: dict[str, Component] = {}
    for place, part in enumerate(_parts("reward", component), start=1):
        label = part.get("part")
        if not isinstance(label, str) or not isinstance(part.get("name"), str) or label in found:
            raise CoveyError(
                f"[reward] 'by_part': part {place} must say which part of the mixture it is for, and "
                'the name of a reward: {part = "sums", name = "number"}'
            )
        found[label] = component_of({key: value for key, value in part.items() if key != "part"})
    return found


def _parts(kind: str, component: Component) -> list[Mapping[str, Any]]:
    for key in component.params:
        if key != "parts":
            raise CoveyError(f"[{kind}] {component.name!r} has no parameter {key!r}; it takes: parts")
    parts = component.params.get("parts")
    if not isinstance(parts, list | tuple) or not parts or not all(isinstance(p, Mapping) for p in parts):
        raise CoveyError(f"[{kind}] {component.name!r} needs parts, a list of tables")
    return list(parts)
