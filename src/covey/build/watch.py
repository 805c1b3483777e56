"""The watch of a run: the recipe's sentinels, what they must know, and where their findings go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from covey.build.combined import oracles_of
from covey.config import Recipe
from covey.evals.evaluate import summary
from covey.learn import PolicyLearner
from covey.learn.split import split_difference
from covey.models import Policy
from covey.protocols import Engine, Fingerprinted, Watch
from covey.records import RunReader, RunWriter
from covey.sentinels import SENTINELS, Chosen, Guard, Level, Report, Sentinel, Setting, choose
from covey.types import Group, Update, Weights
from covey.view.progress import Progress


def chosen(recipe: Recipe) -> dict[str, Chosen]:
    """The sentinels that are on. Raises CoveyError for a name or a threshold that there isn't."""
    return choose({name: entry.model_dump() for name, entry in recipe.sentinels.items()})


def described(recipe: Recipe) -> dict[str, Any]:
    """For the manifest: every sentinel's level and thresholds, or that it is off."""
    on = chosen(recipe)
    return {name: on[name].describe() if name in on else {"level": "off"} for name in SENTINELS}


def watch_of(
    recipe: Recipe, learner: PolicyLearner, engine: Engine, writer: RunWriter, view: Progress
) -> Guard:
    """The guard, with the recorded steps in its memory. The record says who is on guard, and who of
    them can't see in this run, and why."""
    setting = replace(
        setting_of(recipe, learner, engine),
        oracles=oracles_of(recipe.reward),
        heldout=partial(heldout_scores, writer.layout.root) if recipe.eval.every else None,
    )
    posted: list[tuple[Sentinel, Level]] = [(c.post(setting), c.level) for c in chosen(recipe).values()]
    guard = Guard(posted, _teller(writer, view))
    for row in RunReader(writer.layout.root).metrics():
        guard.recall(row["step"], row)
    levels = {name: entry["level"] for name, entry in described(recipe).items()}
    writer.event("sentinels", levels=levels, blind=_blind([sentinel for sentinel, _ in posted]))
    return guard


def setting_of(recipe: Recipe, learner: PolicyLearner, engine: Engine) -> Setting:
    """What the sentinels must know of this run."""
    policy = learner.policy

    def difference(groups: Sequence[Group]) -> float | None:
        return split_difference(learner, groups)

    return Setting(
        dtype=str(policy.dtype).removeprefix("torch."),
        temperature=recipe.rollout.temperature,
        max_new_tokens=recipe.rollout.max_new_tokens,
        anchor="sampler" if learner.algorithm.ratio.params.get("against") == "sampler" else "learner",
        truncated="masked" if learner.algorithm.truncated == "masked" else "scored",
        template_tokens=policy.chat.marks(),
        end_tokens=_named(policy, sorted(policy.end_ids)),
        engine_weights=engine.fingerprint if isinstance(engine, Fingerprinted) else None,
        learner_weights=learner.fingerprint,
        split_difference=difference,
    )


def heldout_scores(run: Path) -> list[tuple[int, float]]:
    """(step, mean sampled score) of every evaluation that a run has recorded, unscored ones left out."""
    found = [(one.step, summary(one)["sampled"]["mean"]) for one in RunReader(run).evaluations()]
    return [(step, mean) for step, mean in found if mean is not None]


class TimedWatch(Watch):
    """A watch whose time is charged to ``watch``."""

    def __init__(self, watch: Watch, clock: Callable[[str], AbstractContextManager[None]]) -> None:
        self.watch, self.clock = watch, clock

    def sampled(self, step: int, groups: Sequence[Group]) -> None:
        with self.clock("watch"):
            self.watch.sampled(step, groups)

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> None:
        with self.clock("watch"):
            self.watch.learned(step, groups, update)

    def loaded(self, step: int, weights: Weights) -> None:
        with self.clock("watch"):
            self.watch.loaded(step, weights)


def _teller(writer: RunWriter, view: Progress) -> Callable[[Report], None]:
    """Every finding into the record; warnings to the view, too. A stop is told by what it raises."""

    def tell(report: Report) -> None:
        found = report.finding
        writer.event(
            "sentinel",
            sentinel=report.sentinel,
            level=report.level,
            step=report.step,
            what=found.what,
            evidence=found.evidence,
            cause=found.cause,
            remedy=found.remedy,
        )
        if report.level == "warn":
            view.message(report.line, error=True)

    return tell


def _blind(sentinels: Sequence[Sentinel]) -> Mapping[str, str]:
    return {s.name: reason for s in sentinels if (reason := s.blind()) is not None}


def _named(policy: Policy, ids: Sequence[int]) -> dict[int, str]:
    return {token: policy.chat.raw([token]) for token in ids}
