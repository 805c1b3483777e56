"""Episodes and scores as JSON, the only thing that passes between a run and its graders' processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from covey.types import Completion, Ending, Episode, Fault, Problem, Score, StopReason, Turn

Json = dict[str, Any]


def problem_to_json(problem: Problem) -> Json:
    return {
        "id": problem.id,
        "messages": plain(problem.messages),
        "answer": problem.answer,
        "columns": plain(problem.columns),
    }


def problem_from_json(row: Mapping[str, Any]) -> Problem:
    return Problem(row["id"], tuple(row["messages"]), row["answer"], row["columns"])


def episodes_to_json(episodes: Sequence[Episode]) -> Json:
    """The episodes of one problem; log-probabilities stay behind, which no grader reads."""
    return {
        "problem": problem_to_json(episodes[0].problem),
        "episodes": [[e.sample, [_turn_to_json(turn) for turn in e.turns], e.ended] for e in episodes],
    }


def episodes_from_json(row: Mapping[str, Any]) -> list[Episode]:
    problem = problem_from_json(row["problem"])
    return [
        Episode(
            problem,
            sample,
            tuple(_turn_from_json(turn) for turn in turns),
            None if ended is None else Ending(ended),
        )
        for sample, turns, ended in row["episodes"]
    ]


def score_to_json(score: Score) -> Json:
    fault = score.fault
    return {
        "value": score.value,
        "parts": dict(score.parts),
        "error": score.error,
        "fault": None if fault is None else [fault.kind, fault.trace],
    }


def score_from_json(row: Any) -> Score:
    """Raises ValueError, TypeError or KeyError when it isn't a score of exactly the right types."""
    value, error, fault = row["value"], row["error"], row["fault"]
    parts = {str(name): _number(part) for name, part in dict(row["parts"]).items()}
    if not isinstance(error, str | None):
        raise TypeError("an error is a text")
    return Score(_number(value), parts, error, None if fault is None else Fault(str(fault[0]), fault[1]))


def plain(value: Any) -> Any:
    """A data row's value as the record keeps it: what JSON can't say (a date, bytes) as its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"a finite number or null, not {type(value).__name__}")
    return float(value)


def _turn_to_json(turn: Turn) -> list[Any]:
    c = turn.completion
    return [turn.context_ids, c.token_ids, str(c.stop), c.policy_version, c.text]


def _turn_from_json(row: Sequence[Any]) -> Turn:
    context, ids, stop, version, text = row
    return Turn(tuple(context), Completion(tuple(ids), None, StopReason(stop), version, text))
