"""What a sentinel is: one invariant of a run, watched, and a diagnosis when it breaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias

from covey.types import Group, Update, Weights

Level: TypeAlias = Literal["stop", "warn"]
"""``stop`` where the experiment is invalid, ``warn`` where training may rightly go on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A diagnosis: what is wrong, the figures that show it, the likely cause, and what to do.

    ``level`` None is the sentinel's own; ``warn`` says that this one is not yet worth a stop.
    """

    what: str
    evidence: str
    cause: str
    remedy: str
    level: Level | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What a sentinel must know of a run beside what it is shown.

    dtype: the coarsest number format that engine or learner computes in. anchor: whose log-probs
    the algorithm's ratio divides by. truncated: what the algorithm does with episodes that were cut off;
    ``masked`` ones aren't trained on. template_tokens: the special tokens that the chat template puts
    into every prompt, id → text; empty without a template. end_tokens: those that end a reply.

    oracles: the parts of the reward, by their labels, that are measured and not trained on. heldout: the
    (step, mean sampled score) of every evaluation so far, None when there is none between start and end.

    The last three need tensors to answer and may be None where nobody can: digests of the weights
    the engine computes with, by name, and of those it should; and how far the gradient of a few
    of the groups' sequences in one micro-batch is from the same in two, relative to its norm (None: no
    gradient to compare).
    """

    dtype: str = "float32"
    temperature: float = 1.0
    max_new_tokens: int = 256
    anchor: Literal["learner", "sampler"] = "learner"
    truncated: Literal["scored", "masked"] = "scored"
    template_tokens: Mapping[int, str] = field(default_factory=dict)
    end_tokens: Mapping[int, str] = field(default_factory=dict)
    oracles: Sequence[str] = ()
    heldout: Callable[[], Sequence[tuple[int, float]]] | None = None
    engine_weights: Callable[[], Mapping[str, str]] | None = None
    learner_weights: Callable[[], Mapping[str, str]] | None = None
    split_difference: Callable[[Sequence[Group]], float | None] | None = None

    @property
    def exact(self) -> bool:
        """Whether both sides compute in fp32 at least."""
        return self.dtype in ("float32", "float64")


@dataclass(kw_only=True)
class Sentinel:
    """Watches one invariant. A subclass answers the moments of `covey.protocols.Watch` that it needs,
    each with a `Finding` or None; its thresholds are its fields.

    What a check is measured against comes from `remember` alone, which a resumed run is given for
    the recorded steps again: so it goes on with the same memory.
    """

    name: ClassVar[str]
    level: ClassVar[Level]

    setting: Setting

    def __post_init__(self) -> None:
        for threshold, value in self.thresholds().items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value) and value >= 0):
                raise ValueError(f"{threshold} must be a number that isn't negative, not {value!r}")

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The thresholds that a recipe can set, with their defaults."""
        return {f.name: f.default for f in fields(cls) if f.init and f.name != "setting"}

    def thresholds(self) -> dict[str, Any]:
        """The thresholds as they are set."""
        return {name: getattr(self, name) for name in self.defaults()}

    def blind(self) -> str | None:
        """Why this sentinel can't see anything in this run, or None."""
        return None

    def sampled(self, step: int, groups: Sequence[Group]) -> Finding | None:
        """Look at what was sampled, before anything is learned from it."""

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        """Look at what was learned."""

    def loaded(self, step: int, weights: Weights) -> Finding | None:
        """Look at what the engine computes with, after ``step`` steps."""

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take note of a step's metrics, after every check of it."""
