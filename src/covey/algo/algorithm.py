"""An algorithm of the GRPO family: five independent choices, and corrections for the sampler."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from covey.algo.advantage import ADVANTAGES
from covey.algo.aggregation import AGGREGATIONS
from covey.algo.batch import PerToken, TokenBatch
from covey.algo.choice import Choice, as_choice, did_you_mean
from covey.algo.compatibility import controlled, refusal
from covey.algo.correction import CORRECTIONS
from covey.algo.entropy import ENTROPY, ENTROPY_CONTROLS, SELECTIONS
from covey.algo.kl import KL, KL_CONTROLS
from covey.algo.ratio import RATIOS
from covey.algo.surrogate import SURROGATES


@dataclass(frozen=True)
class Functions:
    """An algorithm's functions with their parameters bound."""

    advantage: Callable[..., Any]
    ratio: Callable[..., Any]
    surrogate: Callable[..., Any]
    aggregation: Callable[..., Any]
    kl: Callable[..., Any] | None
    selection: Callable[..., Any] | None
    correction: tuple[Callable[..., Any], ...]
    entropy: Callable[..., Any] | None
    kl_control: Callable[..., Any] | None
    entropy_control: Callable[..., Any] | None


OPTIONAL = ("kl", "selection", "entropy", "kl_control", "entropy_control")
"""Choices that may be None."""

LATER = {"truncated": "scored", "entropy": None, "kl_control": None, "entropy_control": None}
"""Choices that came after the first records, at what algorithms were before them."""


@dataclass(frozen=True)
class Algorithm:
    """What is optimised, as choices that don't know of each other.

    ``kl`` None is no penalty; ``kl_in`` is ``loss`` (added to it) or ``reward`` (taken off it).
    ``truncated`` is ``scored`` (a completion cut off by the length limit is one like any other) or
    ``masked`` (it counts in its group's baseline, but has no loss and no share in the weights: "overlong
    filtering", DAPO 2503.14476). ``selection`` singles out tokens over the whole step, for the choices
    that read it. ``entropy`` is a bonus off each token's loss. ``kl_control`` and ``entropy_control``
    move the coefficient of either from step to step (`covey.algo.control`). A literal of this class is
    all there is to a preset. Construction checks every name, parameter and combination; ValueError says
    what is wrong and why.
    """

    advantage: Choice
    surrogate: Choice
    aggregation: Choice
    ratio: Choice = field(default_factory=lambda: Choice("token"))
    kl: Choice | None = None
    kl_in: str = "loss"
    selection: Choice | None = None
    correction: tuple[Choice, ...] = ()
    truncated: str = "scored"
    entropy: Choice | None = None
    kl_control: Choice | None = None
    entropy_control: Choice | None = None

    def __post_init__(self) -> None:
        reason = refusal(
            advantage=self.advantage,
            surrogate=self.surrogate,
            ratio=self.ratio,
            kl=self.kl,
            kl_in=self.kl_in,
            selection=self.selection,
            correction=self.correction,
            truncated=self.truncated,
            reads=self.reads,
        ) or controlled(
            kl=self.kl,
            kl_control=self.kl_control,
            entropy=self.entropy,
            entropy_control=self.entropy_control,
            reads=self.reads,
        )
        if reason is not None:
            raise ValueError(reason)

    @cached_property
    def functions(self) -> Functions:
        """The chosen functions. ValueError for a name or a parameter that there isn't."""

        def maybe(name: str, table: Mapping[str, Callable[..., Any]]) -> Callable[..., Any] | None:
            choice: Choice | None = getattr(self, name)
            return choice.resolve(name, table) if choice else None

        return Functions(
            advantage=self.advantage.resolve("advantage", ADVANTAGES),
            ratio=self.ratio.resolve("ratio", RATIOS),
            surrogate=self.surrogate.resolve("surrogate", SURROGATES),
            aggregation=self.aggregation.resolve("aggregation", AGGREGATIONS),
            kl=maybe("kl", KL),
            selection=maybe("selection", SELECTIONS),
            correction=tuple(choice.resolve("correction", CORRECTIONS) for choice in self.correction),
            entropy=maybe("entropy", ENTROPY),
            kl_control=maybe("kl_control", KL_CONTROLS),
            entropy_control=maybe("entropy_control", ENTROPY_CONTROLS),
        )

    @cached_property
    def reads(self) -> frozenset[str]:
        """What the per-token functions read besides ``logp``: the log-probs of ``learner``,
        ``sampler`` and ``reference``, and the ``selection``.

        Found by running them on a batch of one token that takes notes, so that a function of
        one's own needs no declaration.
        """
        asked: set[str] = set()

        class Notes(TokenBatch):
            def anchor(self, whose: str) -> PerToken:
                asked.add(whose)
                return super().anchor(whose)

            def marked(self) -> PerToken:
                asked.add("selection")
                return super().marked()

        one, f = torch.ones(1), self.functions
        batch = Notes(-one, -one, -one, -one, one, torch.zeros(1, dtype=torch.long), one, one)
        f.surrogate(batch, f.ratio(batch))
        for function in (*f.correction, *filter(None, (f.kl, f.entropy))):
            function(batch)
        return frozenset(asked)

    @property
    def needs_reference(self) -> bool:
        """Whether a frozen reference (or teacher) must score the tokens."""
        return "reference" in self.reads

    @property
    def needs_old_logp(self) -> bool:
        """Whether the learner's value at the start of the update enters the loss. With one optimizer
        step per rollout that is ``logp`` itself, and no pass is needed to know it."""
        return "learner" in self.reads

    @property
    def needs_sampler_logp(self) -> bool:
        """Whether the engine's own log-probs enter the loss."""
        return "sampler" in self.reads

    def replace(self, **changes: Any) -> Algorithm:
        """The same algorithm with some choices changed, each written as a `Choice`, a name, a
        function, or ``{"name": …, **params}``. Those of `OPTIONAL` take None; ``correction`` takes one,
        several, or None. Raises ValueError as the constructor does."""
        names = [f.name for f in dataclasses.fields(self)]
        written: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in names:
                raise ValueError(f"an algorithm has no choice {name!r}{did_you_mean(name, names)}")
            if name in ("kl_in", "truncated") or (name in OPTIONAL and value is None):
                written[name] = value
            elif name == "correction":
                several = value if isinstance(value, list | tuple) else [] if value is None else [value]
                written[name] = tuple(as_choice(one) for one in several)
            else:
                written[name] = as_choice(value)
        return dataclasses.replace(self, **written)

    def describe(self) -> dict[str, Any]:
        """The choices as plain data, for a manifest: ``{"surrogate": {"name": "clip", …}, …}``.

        Those of `LATER` are there only where they make a difference: a run's hash chain begins with its
        algorithm, and runs from before there was the choice keep theirs.
        """

        def plain(value: Any) -> Any:
            if isinstance(value, Choice):
                return {"name": value.label, **value.params}
            return [plain(one) for one in value] if isinstance(value, tuple) else value

        choices = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {name: one for name, one in choices.items() if name not in LATER or one != LATER[name]}
