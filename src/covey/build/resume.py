"""Going on with a run: find where it stands, check that it is the same run, and carry it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from covey.build import assemble
from covey.build.interrupt import Interrupts
from covey.build.keep import Completed
from covey.build.run import Result, carry_out
from covey.config import Recipe, parse
from covey.learn import PolicyLearner, checkpoint
from covey.learn.learner import renewed_after
from covey.models.fingerprint import fingerprint, joined
from covey.protocols import Reward, Task
from covey.records import Checkpoints, RunReader, RunWriter, origin
from covey.types import CoveyError
from covey.view.progress import Progress

FREE = ("checkpoint.", "sentinels.")
"""Keys that may change without being asked for: they decide nothing that is computed."""

SURROUNDINGS = (
    "python",
    "implementation",
    "packages",
    "cpu.model",
    "cpu.architecture",
    "cpu.flags",
    "gpu",
    "threads",
    "kernels",
)
"""What of the manifest's environment can change the last digits of a result."""


def resume(
    run: Path,
    *,
    steps: int | None = None,
    overrides: Sequence[str] = (),
    changed: bool = False,
    view: Progress | None = None,
    task: Task | None = None,
    reward: Reward | None = None,
) -> Result:
    """Go on with a run from its newest good checkpoint, to the end it would have had.

    steps: train up to so many steps instead. overrides: other keys of the recipe, which are refused
    unless ``changed``. task, reward: the objects, if the run was given objects.

    Raises CoveyError, with nothing dropped or changed, when there is no such run, when it is finished,
    and when its model, data or recipe aren't those it began with.
    """
    view = view or Progress()
    reader = RunReader(run)
    manifest = reader.manifest()
    recipe = _recipe(reader, steps, overrides, changed)
    at, folder = _newest(reader, view)
    _reachable(reader, at, recipe)
    parts = assemble.prepare(recipe, task=task, reward=reward)
    with Interrupts() as interrupts, view, assemble.graders(parts):
        view.message("loading the model")
        with interrupts.harmless():
            if recipe.threads is None:
                torch.set_num_threads(manifest["environment"]["threads"])
            policy = assemble.policy_of(recipe)
            learner = assemble.learner_of(parts, policy)
            here = assemble.manifest_of(parts, policy)
            _same_inputs(run, manifest, here, changed)
            _same_evaluations(reader, parts)
            if folder is not None:
                _restore(folder, learner, at, reader)
                learner.follow(reader.metrics()[: at.step])
        elsewhere = _elsewhere(manifest, here)
        same = recipe.model_dump(mode="json") == reader.recipe()
        with RunWriter.reopen(run, at.step, None if same else recipe.model_dump(mode="json")) as writer:
            Checkpoints(writer.layout).drop_after(at.step)
            writer.event("resumed", step=at.step, elsewhere=elsewhere)
            if elsewhere:
                view.message(
                    f"not where the run began ({', '.join(elsewhere)}): its last digits may differ now"
                )
            view.message(f"going on after {at.step} of {recipe.steps} steps")
            return carry_out(parts, learner, writer, view, interrupts, at)


def _recipe(reader: RunReader, steps: int | None, overrides: Sequence[str], changed: bool) -> Recipe:
    """The recipe to go on by. Raises CoveyError for a change that wasn't asked for by name."""
    where = str(reader.layout.manifest)
    flags = [*overrides, *(("--steps", str(steps)) if steps is not None else ())]
    old, new = parse(reader.recipe(), where=where), parse(reader.recipe(), flags, where=where)
    free = (*FREE, "steps") if steps is not None else FREE
    differ = differences(old.model_dump(mode="json"), new.model_dump(mode="json"))
    told = [f"{key} {was} → {now}" for key, (was, now) in differ.items() if not key.startswith(free)]
    if told and not changed:
        raise CoveyError(
            f"{reader.layout.root} began with another recipe: {', '.join(told)}. Leave these out to go on "
            "with the same run, or give --changed to go on with a changed one"
        )
    return new


def _newest(reader: RunReader, view: Progress) -> tuple[Completed, Path | None]:
    """Where the newest good checkpoint stands, and its folder; the start when there is none."""
    run = origin(reader.manifest())
    checkpoints = Checkpoints(reader.layout)
    step, passed_over = checkpoints.newest()
    for message in passed_over:
        view.message(message, error=True)
    if not step:
        return Completed.nothing(run), None
    folder, state = reader.layout.checkpoint(step), checkpoints.state(step)
    if state["run"] != run:
        raise CoveyError(
            f"checkpoint {folder} is of another run: its model, data or recipe aren't those of "
            f"{reader.layout.manifest}; move it away, and resume from the one before"
        )
    linked = {row["step"]: row["hash"] for row in reader.chain()}.get(step - 1)
    if linked != state["chain"]:
        raise CoveyError(
            f"checkpoint {folder} doesn't follow from the record: the link of step {step - 1} in "
            f"{reader.layout.chain} is {linked or 'missing'}; move it away, and resume from the one before"
        )
    return Completed(step, state["policy_version"], state["source"], state["chain"], run), folder


def _reachable(reader: RunReader, at: Completed, recipe: Recipe) -> None:
    run, summary = reader.layout.root, reader.summary()
    if recipe.steps < at.step:
        raise CoveyError(f"{run} has completed {at.step} steps: it can't end after {recipe.steps}")
    if summary is None:
        return
    if recipe.steps <= summary["steps"]:
        raise CoveyError(
            f"{run} is finished: it has reached its {summary['steps']} steps. To train it further: "
            f"covey resume {run} --steps {2 * summary['steps']}"
        )
    if not at.step:
        raise CoveyError(f"{run} is finished and has no good checkpoint to be trained further from")


def _restore(folder: Path, learner: PolicyLearner, at: Completed, reader: RunReader) -> None:
    """Load a checkpoint, and hold what is in memory then against the chain."""
    reference = learner.renewed(at.step)
    checkpoint.restore(folder, learner.policy, learner.optimizer, at.version, reference)
    links = reader.chain()
    held = [
        (part, found, at.step - 1, links[at.step - 1][part])
        for part, found in checkpoint.fingerprints(learner.policy, learner.optimizer).items()
    ]
    if reference is not None:
        then = renewed_after(at.step, learner.reference_every) - 1
        held.append(
            ("reference's weights", joined(fingerprint(reference.master)), then, links[then]["weights"])
        )
    for part, found, step, linked in held:
        if found != linked:
            raise CoveyError(
                f"checkpoint {folder}: its {part} aren't those that step {step} ended with "
                f"({reader.layout.chain}); move it away, and resume from the one before"
            )


def _same_inputs(run: Path, then: Mapping[str, Any], now: Mapping[str, Any], changed: bool) -> None:
    told = [
        f"{section}.{key} {was} → {new}"
        for section in ("algorithm", "model", "data")
        for key, (was, new) in differences(then[section], now[section]).items()
    ]
    if told and not changed:
        raise CoveyError(
            f"{run} began with other inputs: {', '.join(told)}. Restore them to go on with the same run, or "
            "give --changed to go on with a changed one"
        )


def _same_evaluations(reader: RunReader, parts: assemble.Parts) -> None:
    """Better said now than at the end, when the first evaluation is to be compared with the last."""
    measured = {answer.problem_id for e in reader.evaluations() for answer in (*e.greedy, *e.sampled)}
    if measured and measured != {problem.id for problem in parts.heldout}:
        raise CoveyError(
            f"{reader.layout.root} was measured on other held-out problems, so before and after could not be "
            "compared: leave eval.problems and the task's held-out problems as they were"
        )


def _elsewhere(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs in machine, software and code from where the run began."""
    told = [
        f"{key} {was} → {new}"
        for key, (was, new) in differences(then["environment"], now["environment"]).items()
        if key.startswith(SURROUNDINGS)
    ]
    if then["code"]["source_sha256"] != now["code"]["source_sha256"]:
        told.append("Covey's code")
    return told


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key → (old, new) for what differs between two nested mappings; None for what isn't there."""
    before, after = _flat(old), _flat(new)
    keys = list(dict.fromkeys([*before, *after]))
    return {k: (before.get(k), after.get(k)) for k in keys if before.get(k) != after.get(k)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
