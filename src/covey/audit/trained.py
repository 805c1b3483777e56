"""What was learned from, recomputed: advantages, token weights, losses, and the metrics they make up."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from covey.algo import Algorithm, TokenBatch, control, diagnostics, token_loss
from covey.audit.findings import Check, Place
from covey.audit.meaning import Meaning, Meanings
from covey.audit.recorded import Record, Step
from covey.build import assemble
from covey.build.conversation import longest_reply
from covey.learn import Schedule
from covey.learn.batch import Trained, mini_batches, prepare, split
from covey.learn.learner import counts
from covey.learn.look import kept, penalties, prices, reference_distance
from covey.records.rows import LOOKED
from covey.types import CoveyError, Sample

EXACT = 1e-12
"""Of float64 arithmetic on few numbers: what another machine may round differently."""

SINGLE = 1e-6
"""Of one float32 value, or of a float32 sum relative to the sum of its terms' sizes."""

SUMMED = 1e-9
"""Of a float64 mean over a step's tokens."""

SMALLEST = 1e-14
"""Absolute: what a float64 mean of values that cancel keeps of its terms' last bits."""

MODEL_ONLY = ("entropy", "grad_norm")
"""Metrics that only the model can tell: nothing in the record implies them, but the chain holds them."""


@dataclass(frozen=True)
class Learned:
    """A step's trained episodes: as the record implies them and as it has them, one to one."""

    step: Step
    meaning: Meaning
    expected: list[Trained]
    samples: list[Sample]
    held: control.Held

    @property
    def algorithm(self) -> Algorithm:
        """With the coefficients that this step had."""
        return control.applied(self.meaning.algorithm, self.held)

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns that the record has of this step, beside those that it has of every one."""
        return kept(self.meaning.algorithm, moves=self.moves)

    @property
    def moves(self) -> bool:
        """Whether the policy moved while it learned from this rollout."""
        train = self.meaning.recipe.train
        return train.epochs * train.mini_batches > 1

    @property
    def parts(self) -> int:
        """How many optimizer steps an epoch had."""
        return len(mini_batches(self.expected, self.meaning.recipe.train.mini_batches))

    def pairs(self) -> Iterator[tuple[Place, Trained, Sample]]:
        for wanted, sample in zip(self.expected, self.samples, strict=True):
            yield {"step": self.step.step, "group": sample.group, "sample": sample.sample}, wanted, sample


def trained_checks(record: Record, meanings: Meanings) -> Iterator[Check]:
    """Every check of the updates."""
    chosen = Check("trained episodes", "episodes trained: those of every group that isn't left out")
    held = _held(record, meanings)
    learned = [one for step in record.completed if (one := _learned(chosen, step, meanings, held[step.step]))]
    yield chosen
    yield advantages(learned)
    yield token_weights(learned)
    yield trained_logp(learned)
    yield from losses(learned)
    yield counted(learned)


def _held(record: Record, meanings: Meanings) -> dict[int, control.Held]:
    """Where the controllers of each step's recipe stood before it: what the metrics of all steps before
    have led them to."""
    held: dict[int, control.Held] = {}
    by_meaning: dict[int, tuple[Meaning, control.Held]] = {}
    steps = [step.step for step in record.completed]
    for meaning in (meanings.at(step) for step in steps):
        by_meaning.setdefault(id(meaning), (meaning, control.first(meaning.algorithm)))
    for step in steps:
        held[step] = by_meaning[id(meanings.at(step))][1]
        for key, (meaning, now) in by_meaning.items():
            by_meaning[key] = meaning, control.after(meaning.algorithm, now, record.metrics[step])
    return held


def _learned(check: Check, step: Step, meanings: Meanings, held: control.Held) -> Learned | None:
    """Match the trained samples with the episodes that should have been; None when they don't."""
    meaning = meanings.at(step.step)
    try:
        expected = _expected(meaning, step, None)
    except (CoveyError, ValueError) as error:
        check.fault({"step": step.step}, str(error))
        return None
    wanted = {(one.group, one.sample) for one in expected}
    found = [(one.group, one.sample) for one in step.samples]
    for group, sample in sorted(wanted.symmetric_difference(found)):
        there = (group, sample) in wanted
        message = "it has to be trained and isn't" if there else "it is trained and mustn't be"
        check.fault({"step": step.step, "group": group, "sample": sample}, message)
    check.count += len(wanted)
    if found != [(one.group, one.sample) for one in expected]:
        if len(found) == len(expected) and wanted == set(found):
            check.fault({"step": step.step}, "its samples aren't in the order of its episodes")
        return None
    learned = Learned(step, meaning, expected, step.samples, held)
    if not prices(meaning.algorithm) or not _aligned(learned):
        return learned
    priced = _expected(meaning, step, penalties(learned.algorithm, step.samples))
    return replace(learned, expected=priced)


def _expected(meaning: Meaning, step: Step, penalty: Sequence[float] | None) -> list[Trained]:
    talked = any(e.ended is not None for group in step.groups for e in group.episodes)
    longest, parts = longest_reply(meaning.recipe, talked), meaning.recipe.train.mini_batches
    return prepare(meaning.algorithm, step.groups, longest, parts=parts, penalty=penalty)


def advantages(learned: Sequence[Learned]) -> Check:
    """Â of every trained episode, over its whole step."""
    check = Check("advantages", "advantages recomputed")
    for one in learned:
        for place, wanted, sample in one.pairs():
            check.count += 1
            check.same(place, "advantage", sample.advantage, wanted.advantage, EXACT)
    return check


def token_weights(learned: Sequence[Learned]) -> Check:
    """The share of the step's loss that each token carries, in float32 as it was multiplied."""
    check = Check("token weights", "token weights recomputed")
    for one in learned:
        for place, wanted, sample in one.pairs():
            weight = array("f", [wanted.weight])[0]
            check.count += len(sample.weight)
            check.same(place, "number of weights", len(sample.weight), sum(wanted.chosen))
            for token, recorded in enumerate(sample.weight):
                check.same({**place, "token": token}, "weight", recorded, weight, SINGLE)
    return check


def trained_logp(learned: Sequence[Learned]) -> Check:
    """One log-prob a chosen token, and the sampler's own beside it."""
    check = Check("trained tokens", "trained episodes with the sampler's tokens and log-probs")
    for one in learned:
        for place, wanted, sample in one.pairs():
            check.count += 1
            check.same(place, "number of logp", len(sample.logp), sum(wanted.chosen))
            check.same(place, "sampler_logp", sample.sampler_logp, wanted.sampler_logp)
            if sample.token_ids:  # written down only where they aren't the sampled ones
                sampled = tuple(t for t, own in zip(wanted.reply, wanted.chosen, strict=True) if own)
                check.same(place, "token_ids", sample.token_ids, sampled)
            for name in LOOKED:
                due = sum(wanted.chosen) if name in one.kept else 0
                check.same(place, f"number of {name}", len(getattr(sample, name)), due)
    return check


def losses(learned: Sequence[Learned]) -> Iterator[Check]:
    """Σ weight · token loss, and every metric that is a mean over the trained tokens."""
    whole = Check("losses", "steps' losses recomputed token by token")
    means = Check("token metrics", "metrics recomputed from the trained tokens")
    for one in learned:
        own = one.algorithm
        algorithm: Algorithm | None = own
        if "ref_logp" not in one.kept:
            algorithm = without_reference(own)
        if algorithm is not own:
            whole.skipped = "the loss compares with a reference, whose log-probs aren't in the record"
        if one.meaning.recipe.train.epochs > 1:
            whole.skipped = "only the first epoch's log-probs are in the record"
        if algorithm is None or one.meaning.recipe.train.epochs > 1:
            means.skipped = whole.skipped
        elif one.samples and _aligned(one):
            _compare_loss(whole, means, one, algorithm)
    yield from (whole, means)


def _compare_loss(whole: Check, means: Check, one: Learned, algorithm: Algorithm) -> None:
    place, metrics = {"step": one.step.step}, one.step.metrics or {}
    loss, size, computed = step_loss(algorithm, one.samples, moves=one.moves)
    if one.moves:
        first = mini_batches(one.samples, one.meaning.recipe.train.mini_batches)[0]
        figures = step_loss(algorithm, first, moves=True)[2]
        computed |= {f"first_{k}": v for k, v in figures.items() if k.startswith(("ratio_", "clip_"))}
    if not whole.skipped:
        absolute = SINGLE * size / one.parts
        close(whole, place, "loss", metrics.get("loss"), loss / one.parts, absolute=absolute)
    for name, value in computed.items():
        close(means, place, name, metrics.get(name), value, absolute=SMALLEST)


def without_reference(algorithm: Algorithm) -> Algorithm | None:
    """The algorithm without its KL term where that is all that reads the reference; None when its
    surrogate does."""
    if not algorithm.needs_reference:
        return algorithm
    rest = algorithm.replace(kl=None)
    return None if rest.needs_reference else rest


def step_loss(
    algorithm: Algorithm, samples: Sequence[Sample], *, moves: bool = False
) -> tuple[float, float, dict[str, float]]:
    """(summed loss of a rollout's optimizer steps, the sum of its terms' sizes, metrics), from the
    recorded log-probs. ``moves``: there were several, so that the ratio is to ``old_logp``."""

    def tokens(values: Sequence[Sequence[float]]) -> torch.Tensor:
        return torch.tensor([x for several in values for x in several])

    def looked(name: str) -> torch.Tensor | None:
        values = tokens([getattr(s, name) for s in samples])
        return values if len(values) else None

    sequence = torch.tensor([i for i, s in enumerate(samples) for _ in s.logp])
    advantage = torch.tensor([s.advantage for s in samples])
    batch = TokenBatch(
        logp=tokens([s.logp for s in samples]),
        old_logp=looked("old_logp") if moves else None,
        sampler_logp=tokens([s.sampler_logp for s in samples]),
        ref_logp=looked("ref_logp"),
        advantage=advantage[sequence],
        sequence=sequence,
        selected=looked("selected"),
        entropy=looked("entropy"),
    )
    result = token_loss(algorithm, batch)
    seen = dict(result.metrics)
    if batch.entropy is not None:
        seen["entropy"] = batch.entropy
    terms = result.loss.double() * tokens([s.weight for s in samples])
    return terms.sum().item(), terms.abs().sum().item(), diagnostics.summary([seen])


def counted(learned: Sequence[Learned]) -> Check:
    """Rewards, lengths and counts of each step, its learning rate, and whether it was trained."""
    check = Check("metrics", "metrics recomputed from what was sampled and trained")
    for one in learned:
        place, metrics = {"step": one.step.step}, one.step.metrics or {}
        computed = counts(one.step.groups, one.expected)
        if one.expected and (budget := _budget(one.meaning)) is not None:
            computed["micro_batches"] = _micro_batches(one, budget)
        if one.expected:
            computed |= control.figures(one.held)
        if one.samples and one.held.kl is not None and _aligned(one):
            computed["kl_sequence"] = reference_distance(one.samples)
        finite = all(math.isfinite(metrics.get(name, math.nan)) for name in ("loss", "grad_norm"))
        trained = bool(one.expected) and finite
        if one.moves and one.expected:
            steps = one.parts * one.meaning.recipe.train.epochs
            if finite:  # else some were dropped: how many, only the model can tell
                computed["optimizer_steps"] = float(steps)
            trained = bool(metrics.get("optimizer_steps"))
        check.same(place, "trained", metrics.get("trained"), trained)
        if trained:
            train = one.meaning.recipe.train
            rate = Schedule(train.learning_rate, train.warmup_steps).at(one.step.step)
            computed["learning_rate"] = rate
        for name, value in computed.items():
            if name in metrics or not name.startswith("reward/"):  # earlier records have no means of parts
                close(check, place, name, metrics.get(name), value)
        for name in MODEL_ONLY if one.expected else ():
            if name not in metrics:
                check.fault(place, f"the metric {name} is missing")
    return check


def _micro_batches(one: Learned, budget: int) -> float:
    train = one.meaning.recipe.train
    several = mini_batches(one.expected, train.mini_batches)
    return float(train.epochs * sum(len(list(split(part, budget))) for part in several))


def close(
    check: Check, place: Place, name: str, recorded: Any, computed: float, absolute: float = 0.0
) -> None:
    """Compare a metric; ``absolute`` is what rounding alone may make of it."""
    check.count += 1
    near = isinstance(recorded, int | float) and abs(recorded - computed) <= absolute
    check.same(place, name, computed if near else recorded, computed, SUMMED)


def _aligned(one: Learned) -> bool:
    """Whether every trained token has all its numbers; where not, another check has said so."""
    names = ("weight", "logp", "sampler_logp", *one.kept)
    return all(len({len(getattr(s, name)) for name in names}) == 1 for s in one.samples)


@cache
def _budget(meaning: Meaning) -> int | None:
    """Packed tokens a micro-batch, when task, reward and tokenizer are here to tell."""
    if meaning.parts is None or meaning.words is None:
        return None
    try:
        return assemble.micro_batch_tokens(meaning.parts, meaning.words, fused=meaning.fused)
    except CoveyError:  # a recipe that couldn't have run, which the chain's first link tells
        return None
