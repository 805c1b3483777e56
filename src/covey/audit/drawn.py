"""What the recipe's draw gives, once it is told what came of each step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from covey.audit.meaning import Meaning, Meanings, there
from covey.audit.recorded import Record, Step
from covey.build import assemble
from covey.rollout import redraw


def redrawn(record: Record, meanings: Meanings) -> Iterator[tuple[Step, list[int], dict[str, Any]]]:
    """For every step of the unbroken record the indices of its problems, and the state of the source
    after it. It needs the task."""
    last: Meaning | None = None
    draw = None
    for step in record.unbroken:
        meaning = meanings.at(step.step)
        if meaning is not last:  # a run resumed by another recipe goes on from where it stood
            fresh = assemble.draw_of(meaning.recipe, there(meaning.task), len(meaning.train))
            if draw is not None:
                fresh.restore(draw.state())
            draw, last = fresh, meaning
        rollout = meaning.recipe.rollout
        drawn = redraw(
            there(draw), step.step, step.groups,
            problems_per_step=rollout.problems_per_step, refills=rollout.refills,
        )  # fmt: skip
        yield step, drawn, there(draw).state()
