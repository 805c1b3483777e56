"""Draws of a task that has several parts, each with a draw of its own; and drawing again from a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covey.rollout.draw import Uniform
from covey.types import CoveyError, Group


class Mixed:
    """Several draws, one for each part of a task, in proportion to their weights.

    Every place goes to the part that is furthest behind its weight's share of what was drawn, so that none
    is ever ahead of it by more than one problem. ``counts`` are the numbers of problems, which
    follow each other.
    """

    def __init__(self, draws: Sequence[Uniform], counts: Sequence[int], weights: Sequence[float]) -> None:
        self.draws, self.weights = draws, [weight / sum(weights) for weight in weights]
        self.starts = [sum(counts[:part]) for part in range(len(counts))]
        self.taken = [0] * len(draws)

    def take(self, step: int, number: int) -> list[int]:
        """The next ``number`` indices, those of one part in its own draw's order."""
        parts = [self._next() for _ in range(number)]
        waiting = {part: iter(self.draws[part].take(step, parts.count(part))) for part in sorted(set(parts))}
        return [self.starts[part] + next(waiting[part]) for part in parts]

    def saw(self, step: int, drawn: Sequence[int], groups: Sequence[Group]) -> None:
        """Tell each part what came of its own."""
        for part, start in enumerate(self.starts):
            end = self.starts[part + 1] if part + 1 < len(self.starts) else None
            mine = [place for place, i in enumerate(drawn) if i >= start and (end is None or i < end)]
            there = [place for place in mine if place < len(groups)]
            self.draws[part].saw(step, [drawn[p] - start for p in there], [groups[p] for p in there])

    def state(self) -> dict[str, Any]:
        return {"taken": list(self.taken), "parts": [draw.state() for draw in self.draws]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises CoveyError for that of another mixture."""
        if len(state.get("parts", ())) != len(self.draws):
            raise CoveyError(
                f"the state of the draw is of {len(state.get('parts', ()))} parts, and the task has "
                f"{len(self.draws)}: it can't go on from it"
            )
        self.taken = [int(number) for number in state["taken"]]
        for draw, one in zip(self.draws, state["parts"], strict=True):
            draw.restore(one)

    def _next(self) -> int:
        place = sum(self.taken) + 1
        behind = [weight * place - taken for weight, taken in zip(self.weights, self.taken, strict=True)]
        part = behind.index(max(behind))
        self.taken[part] += 1
        return part


def redraw(
    draw: Uniform | Mixed, step: int, groups: Sequence[Group], *, problems_per_step: int, refills: int
) -> list[int]:
    """What a step drew, round by round, given the groups that came of it."""
    taken: list[int] = []
    missing = problems_per_step
    for _ in range(1 + refills):
        drawn = draw.take(step, missing)
        fresh = groups[len(taken) : len(taken) + missing]
        draw.saw(step, drawn, fresh)
        taken += drawn
        missing -= sum(group.excluded is None for group in fresh)
        if not missing:
            break
    return taken
