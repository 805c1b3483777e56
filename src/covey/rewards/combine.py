"""Several rewards as one, with every part kept by its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from covey.protocols import Reward, submitted
from covey.rewards.gold import check_all, check_kind
from covey.types import CoveyError, Episode, Fault, Problem, Score

Role: TypeAlias = Literal["add", "gate", "oracle"]


@dataclass(frozen=True)
class Part:
    """One reward in a `Combine`.

    ``add``: it counts ``weight`` times. ``gate``: the others' sum counts as far as it does, from 0 to 1.
    ``oracle``: it is kept beside them, and counts for nothing. An ``optional`` part that isn't scored is
    left out; otherwise nothing is scored without it. An oracle is optional always.
    """

    label: str
    reward: Reward
    weight: float = 1.0
    role: Role = "add"
    optional: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise CoveyError(f"the weight of part {self.label!r} must be a number, not {self.weight}")

    @property
    def shaping(self) -> bool:
        """Whether it looks at something else than whether the answer is right."""
        return bool(getattr(self.reward, "shaping", False))


@dataclass(frozen=True)
class Combine:
    """The weighted sum of its parts, through its gates.

    ``value = gates · max(sum, 0) + min(sum, 0)``: a closed gate takes what was earned and leaves what it
    costs, so that a bad form never pays. ``Score.parts`` has each part's own value, unweighted, by its
    label, and the parts of a part as ``label.part``.

    Raises:
        CoveyError: no part counts, or two have one label.
    """

    parts: Sequence[Part]

    def __post_init__(self) -> None:
        labels = [part.label for part in self.parts]
        for label in labels:
            if labels.count(label) > 1:
                raise CoveyError(f"two parts are called {label!r}: give one of them a label of its own")
        if not any(part.role == "add" for part in self.parts):
            raise CoveyError(
                "a combined reward needs a part that is added; gates and oracles alone earn nothing"
            )

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return self.submit(episodes)()

    def submit(self, episodes: Sequence[Episode]) -> Callable[[], list[Score]]:
        """Give every part its episodes; the scores are combined when they are asked for."""
        waiting = [submitted(part.reward, episodes) for part in self.parts]

        def scores() -> list[Score]:
            columns = [self._column(column(), len(episodes)) for column in waiting]
            return [self._combined([column[i] for column in columns]) for i in range(len(episodes))]

        return scores

    def check_all(self, problems: Sequence[Problem]) -> None:
        """Raise CoveyError for the first problem that a part can't grade, unless it is optional."""
        for part in self.parts:
            if part.optional or part.role == "oracle":
                check_kind(part.reward, problems[0])
            else:
                check_all(part.reward, problems)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the parts have to say at the start of a run."""
        return tuple(note for part in self.parts for note in getattr(part.reward, "notes", ()))

    def close(self) -> None:
        """End the processes that parts have."""
        for part in self.parts:
            if callable(close := getattr(part.reward, "close", None)):
                close()

    def check(self, problem: Problem) -> None:
        """Raise CoveyError when a part can't grade such a problem."""
        for part in self.parts:
            check_kind(part.reward, problem)

    @property
    def partial(self) -> bool:
        """Whether a part that is added gives credit for a part of an answer."""
        return any(part.role == "add" and getattr(part.reward, "partial", False) for part in self.parts)

    @property
    def grading(self) -> Combine | None:
        """The same without what is added for form, length or language; None when nothing would be left."""
        kept = [part for part in self.parts if part.role != "add" or not part.shaping]
        return replace(self, parts=kept) if any(part.role == "add" for part in kept) else None

    def _column(self, scores: Sequence[Score], count: int) -> Sequence[Score]:
        if len(scores) != count:
            error = f"it returned {len(scores)} scores for {count} completions"
            return [Score(None, error=error, fault=Fault("length"))] * count
        return scores

    def _combined(self, scores: Sequence[Score]) -> Score:
        kept: dict[str, float | None] = {}
        total, gate, scored = 0.0, 1.0, False
        missing: list[str] = []
        for part, score in zip(self.parts, scores, strict=True):
            kept |= _named(part.label, score)
            if score.value is None:
                if not part.optional and part.role != "oracle":
                    missing.append(f"{part.label}: {score.error or 'not scored'}")
            elif part.role == "add":
                total += part.weight * score.value
                scored = True
            elif part.role == "gate":
                gate *= min(max(score.value, 0.0), 1.0)
        if missing or not scored:
            reasons = missing or [
                f"{p.label}: {s.error or 'not scored'}" for p, s in zip(self.parts, scores, strict=True)
            ]
            fault = next((score.fault for score in scores if score.fault), None)
            return Score(None, kept, "; ".join(reasons), fault)
        return Score(gate * max(total, 0.0) + min(total, 0.0), kept)


def _named(label: str, score: Score) -> Mapping[str, float | None]:
    return {label: score.value, **{f"{label}.{name}": value for name, value in score.parts.items()}}
