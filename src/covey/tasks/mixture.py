"""Several tasks as one, drawn in proportion to their weights, each problem scored by its part's reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from covey.protocols import Interactive, Split, Task, Weighted
from covey.rewards.by_part import PART
from covey.tasks.heldout import shuffled
from covey.types import CoveyError, Problem


@dataclass(frozen=True)
class Part:
    """A task in a `Mixture`, by a label of its own."""

    label: str
    task: Task
    weight: float = 1.0


class Mixture:
    """The problems of several tasks.

    A problem's id is its own after its part's label, ``sums/12+34``, and its column ``mixture_part`` is the
    label, by which the reward ``by_part`` knows how to score it. Of what is drawn to train on, each part
    has its weight's share, however many problems it has; one with shares of its own divides it among them.
    Held out is what each part holds out, in a fixed random order.

    Raises:
        CoveyError: there are no parts, two labels can't be told apart, or a part has no training problems, or
            environments.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        labels = [part.label for part in parts]
        for label in labels:
            if labels.count(label) > 1:
                raise CoveyError(
                    f"mixture: two parts are called {label!r}: give one of them a label of its own"
                )
            if inside := next((other for other in labels if other.startswith(f"{label}/")), None):
                raise CoveyError(
                    f"mixture: {inside!r} reads as a problem of {label!r}: give one of them another label"
                )
        if not parts:
            raise CoveyError("mixture: it needs parts, a list of { task, reward, weight }")
        for part in parts:
            if isinstance(part.task, Mixture):
                raise CoveyError(f"mixture: {part.label!r} is a mixture itself; list its parts here")
            if isinstance(part.task, Interactive):
                raise CoveyError(
                    f"mixture: {part.label!r} has environments, and a mixture's problems have none; train "
                    "on it by itself"
                )
            if not math.isfinite(part.weight) or part.weight <= 0:
                raise CoveyError(f"mixture: the weight of {part.label!r} must be above 0, not {part.weight}")
        train = [_labelled(part, "train") for part in parts]
        for part, problems in zip(parts, train, strict=True):
            if not problems:
                raise CoveyError(f"mixture: {part.label!r} has no training problems")
        held = [problem for part in parts for problem in _labelled(part, "heldout")]
        self._problems: dict[Split, tuple[Problem, ...]] = {
            "train": tuple(problem for problems in train for problem in problems),
            "heldout": tuple(sorted(held, key=lambda problem: shuffled(problem.id))),
        }
        self._shares = tuple(
            share for part, mine in zip(parts, train, strict=True) for share in _shares(part, len(mine))
        )
        self.notes = tuple(note for part in parts for note in getattr(part.task, "notes", ()))

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split; those to train on part by part."""
        return self._problems[split]

    def shares(self) -> Sequence[tuple[int, float]]:
        """For each part its number of training problems, and its weight."""
        return self._shares


def _labelled(part: Part, split: Split) -> tuple[Problem, ...]:
    return tuple(
        replace(problem, id=f"{part.label}/{problem.id}", columns={**problem.columns, PART: part.label})
        for problem in part.task.problems(split)
    )


def _shares(part: Part, count: int) -> list[tuple[int, float]]:
    """A part's share; one that has shares itself, as reasoning_gym does, divides it among them."""
    if not isinstance(part.task, Weighted):
        return [(count, part.weight)]
    inner = part.task.shares()
    total = sum(weight for _, weight in inner)
    return [(number, part.weight * weight / total) for number, weight in inner]
