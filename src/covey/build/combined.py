"""A combined reward, from its parts as a recipe writes them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from covey.config import Component
from covey.protocols import Reward
from covey.rewards.combine import Combine, Part, Role
from covey.types import CoveyError

OWN = {"label": str, "weight": float, "gate": bool, "oracle": bool, "optional": bool}
"""The keys of a part that are the sum's; all others are its reward's."""


@dataclass(frozen=True)
class Written:
    """A part as it stands in a recipe: the reward's component, and the keys of `OWN` that are given."""

    component: Component
    own: Mapping[str, Any]

    @property
    def label(self) -> str:
        return self.own.get("label", self.component.name)

    def part(self, build: Callable[[Component], Reward]) -> Part:
        """The part itself. One whose reward is a gate by nature is one, unless it has a weight."""
        own = self.own
        try:
            reward = build(self.component)
        except CoveyError as error:
            hints = filter(None, map(_meant, self.component.params))
            raise CoveyError("; of a part of combine ".join([str(error), *hints])) from error
        gate = own.get("gate", "weight" not in own and bool(getattr(reward, "gates", False)))
        oracle = own.get("oracle", False)
        role: Role = "oracle" if oracle else "gate" if gate else "add"
        if (gate and oracle) or (role != "add" and "weight" in own):
            raise CoveyError(
                f"[reward] part {self.label!r}: it is a gate, an oracle, or has a weight, not several"
            )
        return Part(self.label, reward, float(own.get("weight", 1.0)), role, own.get("optional", False))


def combined(component: Component, build: Callable[[Component], Reward]) -> Combine:
    """``{name = "combine", parts = [{name = "math", weight = 1.0}, …]}`` as a reward; ``build`` makes each
    part's. Raises CoveyError for what isn't one, naming the part."""
    for key in component.params:
        if key != "parts":
            raise CoveyError(f"[reward] 'combine' has no parameter {key!r}; it takes: parts")
    return Combine([written.part(build) for written in parts_of(component.params.get("parts"))])


def oracles_of(component: Component) -> tuple[str, ...]:
    """The labels of a combined reward's oracles."""
    parts = component.params.get("parts")
    if component.name != "combine" or not isinstance(parts, list | tuple):
        return ()
    return tuple(written.label for written in parts_of(parts) if written.own.get("oracle"))


def parts_of(parts: Any) -> list[Written]:
    """The parts as written, each checked but for its reward's own parameters."""
    if not isinstance(parts, list | tuple) or not parts:
        raise CoveyError(
            "[reward] 'combine' needs parts, a list of rewards such as {name = \"number\", weight = 1.0}"
        )
    return [_written(part, place) for place, part in enumerate(parts, start=1)]


def _written(part: Any, place: int) -> Written:
    values = {"name": part} if isinstance(part, str) else part
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise CoveyError(f"[reward] 'combine': part {place} has no name; it is written {{name = \"number\"}}")
    own = {key: value for key, value in values.items() if key in OWN}
    for key, value in own.items():
        kind = OWN[key]
        fits = (
            isinstance(value, int | float) and not isinstance(value, bool)
            if kind is float
            else isinstance(value, kind)
        )
        if not fits:
            article = {str: "a text", float: "a number", bool: "true or false"}[kind]
            raise CoveyError(f"[reward] 'combine': {key} of part {place} must be {article}, not {value!r}")
    rest = {key: value for key, value in values.items() if key not in OWN}
    return Written(Component.model_validate(rest), own)


def _meant(key: str) -> str:
    """The key of a part that was probably meant, as a hint, or nothing."""
    close = difflib.get_close_matches(key, OWN, n=1)
    return f"did you mean {close[0]!r}?" if close else ""
