"""`covey replay RUN`: some of a run's steps, done again and held against the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from covey.audit.findings import Check, Report, first_difference
from covey.audit.made_of import DECISIVE, at_key, unequal
from covey.audit.recorded import place_of, recipes
from covey.build import assemble
from covey.build.components import reaches_out
from covey.config import Recipe
from covey.learn import PolicyLearner, checkpoint
from covey.loop import reinforce
from covey.models import Policy
from covey.protocols import Source, Watch
from covey.records import Checkpoints, RunReader, RunWriter, hash_file
from covey.records.files import read_lines
from covey.records.migrations import Row
from covey.types import CoveyError, Group, Update, Weights

TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
"""On another machine or software, by dtype: of the entropy and the gradient's norm, relative; of the
trained tokens' log-probs, the mean absolute difference in nats. Computing SmolLM2-135M's second step in
fp32 instead of bf16 moves them by 0.03, 0.02 and 0.07."""

Told = Callable[[Check], None]


class RecordedSource(Source):
    """The groups that the record has, tokens and scores, in place of sampling them again."""

    def __init__(self, reader: RunReader) -> None:
        self.reader = reader

    def next(self, step: int) -> Sequence[Group]:
        return self.reader.groups(step)

    def state(self) -> Mapping[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None: ...


class Unwatched(Watch):
    """What is held against a record needs no other judge."""

    def sampled(self, step: int, groups: Sequence[Group]) -> None: ...

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> None: ...

    def loaded(self, step: int, weights: Weights) -> None: ...


def replay(
    run: Path, *, steps: int, start: int = 0, own_code: bool = False, told: Told = lambda check: None
) -> Report:
    """Do steps ``start`` to ``start + steps - 1`` again and compare each with the record, up to the first
    that differs. ``told`` is given every check as it ends.

    On the machine and software of the record, each step's rollouts, metrics, weights and optimizer
    state must have the recorded hashes. Elsewhere a sampled token may fall differently, and all that
    follows with it; so the recorded tokens are trained on again, and metrics compared within
    `TOLERANCE`.

    Raises CoveyError when there is no record of those steps, no checkpoint to start from, or when
    model or data aren't those of the run.
    """
    reader = RunReader(run)
    manifest = reader.manifest()
    wanted = range(start, start + steps)
    links = {row["step"]: row for row in reader.chain()}
    _recorded(run, links, wanted)
    recipe = _recipe(reader, manifest, wanted, own_code)
    with assemble.prepared(recipe) as parts:
        policy = assemble.policy_of(recipe)
        here = assemble.manifest_of(parts, policy)
        if found := unequal(manifest, here, ["data", "model.parameters", "model.sha256"]):
            raise CoveyError(f"{run} can't be replayed here: its model or data are others. {found[0]}")
        report = Report(run, [], [])
        machine = _machine(manifest, here)
        for check in (machine, _code(manifest, here)):
            report.checks.append(check)
            told(check)
        with TemporaryDirectory() as folder, RunWriter.create(Path(folder) / "run") as writer:
            writer.manifest(manifest)
            again = _Again(parts, policy, reader, writer, exact=machine.skipped is None)
            if start:
                again.restore(start)
            for step in wanted:
                check = again.step(step, links[step])
                report.checks.append(check)
                told(check)
                if check.differences:
                    break
        return report


class _Again:
    """The run, set up a second time with a record of its own."""

    def __init__(
        self, parts: assemble.Parts, policy: Policy, reader: RunReader, writer: RunWriter, *, exact: bool
    ) -> None:
        self.reader, self.policy, self.writer, self.exact = reader, policy, writer, exact
        self.engine = assemble.engine_of(parts.recipe, policy)
        self.learner: PolicyLearner = assemble.learner_of(parts, policy)
        self.source: Source = (
            assemble.source_of(parts, policy, self.engine, parts.reward) if exact else RecordedSource(reader)
        )
        self.again = RunReader(writer.layout.root)

    def restore(self, step: int) -> None:
        """Begin at a checkpoint of the run."""
        checkpoints = Checkpoints(self.reader.layout)
        try:
            state = checkpoints.state(step)
        except CoveyError as error:
            there = ", ".join(map(str, self.reader.layout.checkpoints())) or "none"
            raise CoveyError(
                f"{self.reader.layout.root} can't be replayed from step {step}: {error}. "
                f"Its checkpoints: {there}"
            ) from error
        folder = self.reader.layout.checkpoint(step)
        reference, version = self.learner.renewed(step), state["policy_version"]
        checkpoint.restore(folder, self.policy, self.learner.optimizer, version, reference)
        self.source.restore(state["source"])
        self.learner.follow(self.reader.metrics()[:step])

    def step(self, step: int, link: Row) -> Check:
        """Do one step and compare it."""
        reinforce(
            source=self.source,
            learner=self.learner,
            engine=self.engine,
            recorder=self.writer,
            watch=Unwatched(),
            evaluate=lambda step: None,
            keep=lambda step: None,
            steps=step + 1,
            start=step,
        )
        check = Check(
            f"step {step}", "parts equal, bit for bit" if self.exact else "figures within tolerance"
        )
        recorded, metrics = ({row["step"]: row for row in r.metrics()} for r in (self.reader, self.again))
        if self.exact:
            self._bits(check, step, link)
            check.count += 1
            if found := first_difference(recorded[step], metrics[step]):
                check.differs({"step": step}, *found)
        else:
            self._figures(check, step, recorded[step], metrics[step])
        return check

    def _bits(self, check: Check, step: int, link: Row) -> None:
        """Rollouts first: what was sampled comes before what was learned from it."""
        path, again = (reader.layout.rollout(step) for reader in (self.reader, self.again))
        parts = {"rollouts": hash_file(again)}
        parts |= checkpoint.fingerprints(self.policy, self.learner.optimizer)
        if parts["rollouts"] != link["rollouts"]:
            _first_row(check, path, again)
        for name, value in parts.items():
            check.count += 1
            check.same({"step": step}, name, link[name], value)

    def _figures(self, check: Check, step: int, recorded: Row, metrics: Row) -> None:
        tolerance = TOLERANCE[str(self.policy.dtype).removeprefix("torch.")]
        place = {"step": step}
        for name in ("trained", "episodes_trained", "tokens_trained"):
            check.count += 1
            check.same(place, name, recorded.get(name), metrics.get(name))
        for name in ("entropy", "grad_norm"):
            check.count += 1
            check.same(place, name, recorded.get(name), metrics.get(name), tolerance)
        old, new = (
            torch.tensor([x for sample in reader.samples(step) for x in sample.logp])
            for reader in (self.reader, self.again)
        )
        if old.shape == new.shape and old.numel():
            apart = (old - new).abs().mean().item()
            check.count += 1
            if not apart <= tolerance:
                check.fault(
                    place, f"trained log-probs are {apart:.2g} nats apart in the mean, over {tolerance}"
                )


def _recipe(reader: RunReader, manifest: Row, wanted: range, own_code: bool) -> Recipe:
    """The recipe of the wanted steps with what it resolved to there: the dtype it computed in, and its
    number of threads, which decides how sums are split."""
    several = recipes(reader)
    recipe = next(recipe for at, recipe in reversed(several) if at <= wanted.start)
    for at, other in several:
        if at in wanted and _decides(other) != _decides(recipe):
            run = reader.layout.root
            raise CoveyError(f"{run} went on by another recipe from step {at}: replay up to it, or --from it")
    if not own_code and (reason := reaches_out(recipe.task, recipe.reward, recipe.algorithm.changes)):
        raise CoveyError(f"{reason}; --own-code runs it")
    dtype, threads = at_key(manifest, "model.dtype"), at_key(manifest, "environment.threads")
    model = recipe.model.model_copy(update={"dtype": dtype if dtype in TOLERANCE else "auto"})
    return recipe.model_copy(update={"model": model, "threads": threads})


def _decides(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe a step's outcome depends on."""
    return recipe.model_dump(mode="json", exclude={"steps", "eval", "checkpoint", "sentinels"})


def _recorded(run: Path, links: Mapping[int, Row], wanted: range) -> None:
    if not links:
        raise CoveyError(f"{run} has no chain.jsonl: there is nothing to compare a replay with")
    if missing := [step for step in wanted if step not in links]:
        raise CoveyError(
            f"{run} has no record of step {missing[0]}: it has steps {min(links)} to {max(links)}"
        )


def _machine(manifest: Row, here: Row) -> Check:
    check = Check("machine", "properties that decide the bits are the record's", count=len(DECISIVE))
    if found := unequal(manifest, here, DECISIVE):
        tolerance = TOLERANCE.get(here["model"]["dtype"])
        check.skipped = (
            f"not the record's ({'; '.join(map(str, found))}): no hashes are compared; "
            f"the recorded tokens are trained on again, metrics compared within {tolerance}"
        )
    return check


def _code(manifest: Row, here: Row) -> Check:
    check = Check("code", "tree of sources, the one that ran", count=1)
    if unequal(manifest, here, ["code.source_sha256"]):
        check.skipped = "the sources aren't those that ran; they should compute the same"
    return check


def _first_row(check: Check, path: Path, again: Path) -> None:
    """Where two rollout files begin to differ."""
    rows, others = (read_lines(file, "rollout", []) for file in (path, again))
    for (line, row), (_, other) in zip(rows, others, strict=False):
        if found := first_difference(row, other):
            check.differs(place_of(row) | {"line": line}, *found)
            return
    if len(rows) != len(others):
        check.differs({"file": path.name}, "number of rows", len(rows), len(others))
