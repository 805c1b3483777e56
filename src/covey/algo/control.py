"""Coefficients that follow what a run measures: where they stand before each step.

What a controller has come to is a fold over the metrics of the steps before, and nothing else: whoever
has a run's record, to resume or to verify it, comes to the same numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covey.algo.algorithm import Algorithm
from covey.algo.choice import Choice

BEYOND = 1e15
"""No metric that is read here is so large."""


@dataclass(frozen=True, slots=True)
class Held:
    """``kl`` and ``entropy`` are the controllers' coefficients, None where nothing moves them;
    ``paused``: entropy was above its target, so that no bonus is paid."""

    kl: float | None = None
    entropy: float | None = None
    paused: bool = False

    @property
    def bonus(self) -> float | None:
        """The entropy coefficient that the next loss has."""
        return 0.0 if self.paused else self.entropy


def first(algorithm: Algorithm) -> Held:
    """Before any step: the coefficients as chosen."""
    kl = algorithm.kl if algorithm.kl_control else None
    entropy = algorithm.entropy if algorithm.entropy_control else None
    return Held(_coefficient(kl), _coefficient(entropy))


def after(algorithm: Algorithm, held: Held, metrics: Mapping[str, Any]) -> Held:
    """After a step with these metrics. What a step didn't measure, or not as a finite number, moves
    nothing.

    Reads ``kl_sequence`` (nats a sequence) and ``episodes_trained``; ``entropy`` (nats a token). As in
    TRL 1.16, whether a bonus is paid goes by the entropy of the step before; Skywork-OR1 takes the
    step's own, which isn't known before its loss is.
    """
    control = algorithm.functions
    distance, sequences = _measured(metrics, "kl_sequence"), _measured(metrics, "episodes_trained")
    if held.kl is not None and control.kl_control and distance is not None and sequences:
        moved = control.kl_control(held.kl, distance, int(sequences))
        held = dataclasses.replace(held, kl=moved if math.isfinite(moved) else held.kl)
    entropy = _measured(metrics, "entropy")
    if held.entropy is not None and control.entropy_control and entropy is not None:
        coefficient, paid = control.entropy_control(held.entropy, entropy)
        held = dataclasses.replace(held, entropy=coefficient, paused=not paid)
    return held


def applied(algorithm: Algorithm, held: Held) -> Algorithm:
    """The algorithm with the coefficients that the next loss has; itself when nothing moves them."""
    if held.kl is None and held.entropy is None:
        return algorithm
    return dataclasses.replace(
        algorithm,
        kl=_with(algorithm.kl, held.kl),
        entropy=_with(algorithm.entropy, held.bonus),
        kl_control=None,
        entropy_control=None,
    )


def figures(held: Held) -> dict[str, float]:
    """The coefficients of a step, for its metrics."""
    found = {"kl_coefficient": held.kl, "entropy_coefficient": held.bonus}
    return {name: value for name, value in found.items() if value is not None}


def _coefficient(choice: Choice | None) -> float | None:
    return float(choice.params["coefficient"]) if choice else None


def _measured(metrics: Mapping[str, Any], name: str) -> float | None:
    """A metric that is there, and finite: a record that is verified may say anything."""
    value = metrics.get(name)
    return value if isinstance(value, int | float) and abs(value) < BEYOND else None


def _with(choice: Choice | None, coefficient: float | None) -> Choice | None:
    if choice is None or coefficient is None:
        return choice
    return Choice(choice.name, {**choice.params, "coefficient": coefficient})
