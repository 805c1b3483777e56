"""What a run's evaluations come to: before, after, the difference, and the same of each part of a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from covey.evals.evaluate import difference, summary
from covey.types import Answer, CoveyError, Evaluation


def outcome(evaluations: Sequence[Evaluation], labels: Sequence[str] = ()) -> dict[str, Any]:
    """From the first evaluation to the last, as JSON values; nothing when there is none.

    ``before`` and ``after`` are summaries, ``difference`` has the paired interval of each draw in which a
    problem was scored both times. ``parts`` has the same three of each of the mixture's parts, named by
    ``labels``, that has held-out problems here.
    """
    if not evaluations:
        return {}
    before, after = evaluations[0], evaluations[-1]
    found = _change(before, after)
    if parts := by_part(before, labels):
        later = by_part(after, labels)
        found["parts"] = {label: _change(part, later[label]) for label, part in parts.items()}
    return found


def measured(evaluation: Evaluation, labels: Sequence[str] = ()) -> dict[str, Any]:
    """The summary of an evaluation, with ``parts``, the summary of each part, where there are some."""
    parts = {label: summary(part) for label, part in by_part(evaluation, labels).items()}
    return summary(evaluation) | ({"parts": parts} if parts else {})


def by_part(evaluation: Evaluation, labels: Sequence[str]) -> dict[str, Evaluation]:
    """Label → what an evaluation says of that part of a mixture alone; parts without a problem are left out.

    A problem's part is told by its id, ``label/…``.
    """
    parts: dict[str, Evaluation] = {}
    for label in labels:
        of_part = replace(
            evaluation,
            greedy=_answers(evaluation.greedy, label),
            sampled=_answers(evaluation.sampled, label),
        )
        if of_part.greedy or of_part.sampled:
            parts[label] = of_part
    return parts


def _answers(answers: Sequence[Answer], label: str) -> tuple[Answer, ...]:
    return tuple(answer for answer in answers if answer.problem_id.startswith(f"{label}/"))


def _change(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    found: dict[str, Any] = {"before": summary(before), "after": summary(after), "difference": {}}
    for draw in ("greedy", "sampled"):
        with suppress(CoveyError):  # where no problem was scored both times, there is none
            change = difference(getattr(before, draw), getattr(after, draw))
            found["difference"][draw] = {"mean": change.mean, "low": change.low, "high": change.high}
    return found
