"""reasoning-gym's own verdict: what its ``score_answer`` says of the answer found in a reply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from covey.rewards.answer import final
from covey.rewards.functions import Failure
from covey.rewards.gym import library, scorer, unpacked
from covey.rewards.harmless import arithmetic, literal
from covey.types import CoveyError, Episode, Problem, Score

EVALUATED: Mapping[str, Any] = {
    "binary_matrix": literal,
    "n_queens": literal,
    "spiral_matrix": literal,
    "string_insertion": literal,
    "countdown": arithmetic,
    "polynomial_multiplication": arithmetic,
    "puzzle24": arithmetic,
    "intermediate_integration": lambda text: arithmetic(text, functions=True),
    "simple_integration": lambda text: arithmetic(text, functions=True),
}
"""Where the library evaluates an answer as Python (0.1.25: by ``eval``, or SymPy's ``parse_expr``, which uses
it), and what may be handed to it there."""

NOTHING = "()"
"""What is handed on in place of other text: it evaluates to nothing, and is right nowhere."""

LINE = "answer:"


@dataclass(frozen=True)
class ReasoningGym:
    """The library's score, from 0 to 1, with its ``partial`` credit; without, full marks or nothing.

    The library's partial credit can be had by guessing: where a data set has no rule of its own, an answer
    that contains the right one earns the share of its characters, so that 17 for 7 is worth 0.5.

    The problem says where the answer stands (``answer_in``): in the reply's one ``<answer>…</answer>``
    (``tags``), after ``Answer:`` on its last line (``line``), or it is the reply (``reply``). A reply without
    its answer there scores 0.0. Nine data sets evaluate an answer as Python; there an answer that isn't a
    literal or plain arithmetic counts as a wrong one, and is not evaluated.
    """

    partial: bool = True

    pooled: ClassVar[bool] = True
    each: ClassVar[bool] = True

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        scores = [score(episode.text, episode.problem) for episode in episodes]
        if self.partial:
            return scores
        return [s if s.value is None else Score(float(s.value >= 1.0)) for s in scores]

    def prepare(self) -> None:
        """Import the library, which takes longer than any call."""
        library()

    def check(self, problem: Problem) -> None:
        """Raise CoveyError for a problem of another task."""
        for column in ("gym_task", "gym_settings", "gym_entry", "answer_in"):
            if column not in problem.columns:
                raise CoveyError(
                    "[reward] reasoning_gym scores problems of the task reasoning_gym, which have the "
                    f"column {column!r}; {problem.id!r} has none"
                )


def score(text: str, problem: Problem) -> Score:
    """Grade one reply to a problem of the task reasoning_gym."""
    columns = problem.columns
    answer = extracted(text, columns["answer_in"])
    if answer is None:
        return Score(0.0)
    name = columns["gym_task"]
    if answer != problem.answer and name in EVALUATED and not EVALUATED[name](answer):
        answer = NOTHING
    dataset = scorer(name, json.dumps(columns["gym_settings"], sort_keys=True))
    try:
        value = float(dataset.score_answer(answer, unpacked(columns["gym_entry"])))
        return Score(value)
    # foreign code reads a stranger's text: whatever it raises is the reason why there is no score
    except Exception as error:
        reason = f"reasoning-gym's {name} raised {type(error).__name__}: {error}"[:300]
        return Failure(reason, "raised").score


def extracted(text: str, answer_in: str) -> str | None:
    """The answer as it stands in the reply, or None."""
    if answer_in == "line":
        last = text.strip().rpartition("\n")[2].strip()
        found = last[len(LINE) :].strip() if last.lower().startswith(LINE) else None
        return found or None
    found = final(text, "answer" if answer_in == "tags" else None)
    return None if found is None else found.strip()
