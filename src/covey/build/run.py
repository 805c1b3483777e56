"""A run from start to end: assemble, loop, measure, save."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covey.build import assemble
from covey.build.interrupt import InterruptibleSource, Interrupts
from covey.build.keep import Completed, Keeper
from covey.build.observe import Clock, Observer, TimedEngine, TimedLearner, TimedReward
from covey.build.watch import TimedWatch, watch_of
from covey.config import Recipe, part_labels
from covey.evals.outcome import outcome
from covey.learn import PolicyLearner
from covey.loop import measure, reinforce
from covey.models import Policy, save_policy
from covey.protocols import Reward, Task
from covey.records import RunReader, RunWriter, disk_errors, hash_file
from covey.rewards.pooled import Pooled
from covey.types import Evaluation
from covey.view.progress import Progress


@dataclass(frozen=True, slots=True)
class Result:
    """Where the run is, what it came to (``summary.json``), and the trained model's folder."""

    run: Path
    model: Path
    summary: dict[str, Any]


def train(
    recipe: Recipe,
    run: Path,
    *,
    view: Progress | None = None,
    task: Task | None = None,
    reward: Reward | None = None,
) -> Result:
    """Train as the recipe says and leave everything in the folder ``run``.

    Raises CoveyError for what the user can mend: before any weights are loaded where it can be
    known by then. On SIGTERM and Ctrl-C the last completed step and the model are saved before
    Interrupted is raised.
    """
    view = view or Progress()
    parts = assemble.prepare(recipe, task=task, reward=reward)
    with Interrupts() as interrupts, view, assemble.graders(parts), RunWriter.create(run) as writer:
        view.message("loading the model")
        with interrupts.harmless():
            policy = assemble.policy_of(recipe)
            learner = assemble.learner_of(parts, policy)
            manifest = assemble.manifest_of(parts, policy)
        writer.manifest(manifest)
        return carry_out(parts, learner, writer, view, interrupts, Completed.nothing(writer.head))


def carry_out(
    parts: assemble.Parts,
    learner: PolicyLearner,
    writer: RunWriter,
    view: Progress,
    interrupts: Interrupts,
    at: Completed,
) -> Result:
    """Train from where the run stands to its end, measure, and save the model."""
    run, recipe, policy = writer.layout.root, parts.recipe, learner.policy
    clock = Clock()
    engine = assemble.engine_of(recipe, policy)
    timed = TimedEngine(engine, clock)
    source = assemble.source_of(parts, policy, timed, TimedReward(parts.reward, clock))
    if at.step:
        source.restore(at.source)
    keeper = Keeper(writer, learner, source, settings=recipe.checkpoint, last=recipe.steps, at=at)
    labels = part_labels(recipe.task)
    observer = Observer(writer, view, clock, recipe.steps, keeper.completed, labels)
    evaluator = assemble.evaluator_of(parts, policy, engine)

    def evaluate(step: int) -> Evaluation | None:
        if evaluator is None or step in observer.measured:
            return None
        with clock("evaluate"), interrupts.harmless():
            return evaluator(step)

    def keep(step: int) -> None:
        with clock("checkpoint"):
            keeper(step)

    def at_rest() -> None:
        if policy.version == keeper.at.version:  # else an update is under way: it is completed first
            interrupts.check()

    policy.before_pass.append(at_rest)
    _introduce(parts, policy, run, view, observer)
    clock.take()
    try:
        if at.step:  # the evaluation may have been interrupted when its step was already saved
            measure(evaluate, observer, at.step)
        reinforce(
            source=InterruptibleSource(source, interrupts),
            learner=TimedLearner(learner, clock),
            engine=timed,
            recorder=observer,
            watch=TimedWatch(watch_of(recipe, learner, engine, writer, view), clock),
            evaluate=evaluate,
            keep=keep,
            steps=recipe.steps,
            start=at.step,
        )
    except KeyboardInterrupt as signal:
        _save_interrupted(keeper, policy, writer, view, signal)
        raise
    _save_model(policy, run / "model")
    found = _outcome(run, recipe, observer)
    writer.summary(found)
    view.finish(found)
    return Result(run, run / "model", found)


def _introduce(parts: assemble.Parts, policy: Policy, run: Path, view: Progress, observer: Observer) -> None:
    view.start(_shown(parts, policy, run))
    observer.recall(RunReader(run))
    if ":" in parts.recipe.reward.name and not isinstance(parts.reward, Pooled):
        view.message(
            f"the reward {parts.recipe.reward.name} is an object of this program: it is called here, without "
            "a time limit; one that is named, file.py:name, has limits"
        )
    for note in parts.notes:
        view.message(note)
    if not parts.heldout:
        view.message("the task holds no problems out: nothing will be measured before and after")


def _save_interrupted(
    keeper: Keeper, policy: Policy, writer: RunWriter, view: Progress, signal: KeyboardInterrupt
) -> None:
    run, name = writer.layout.root, str(signal) or "Ctrl-C"
    view.message(f"interrupted ({name}) after {keeper.at.step} steps: saving")
    keeper.save()
    _save_model(policy, run / "model")
    writer.event("interrupted", signal=name, completed=keeper.at.step, saved=keeper.saved)
    view.message(f"saved after {keeper.saved} steps; go on with: covey resume {run}")


def _save_model(policy: Policy, folder: Path) -> None:
    """Write the model beside its place, then put it there: a kill leaves an old one whole, or none."""
    fresh, old = folder.with_name(".model.tmp"), folder.with_name(".model.old.tmp")
    with disk_errors(folder):
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        save_policy(policy, fresh)
        if folder.exists():
            os.rename(folder, old)
        os.rename(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)


def _shown(parts: assemble.Parts, policy: Policy, run: Path) -> dict[str, Any]:
    recipe = parts.recipe
    rollout = recipe.rollout
    return {
        "run": str(run),
        "model": recipe.model.name or f"tiny {(recipe.model.config or {}).get('family', 'llama')}",
        "task": recipe.task.name,
        "algorithm": recipe.algorithm.preset,
        "steps": recipe.steps,
        "batch": f"{rollout.problems_per_step} problems × {rollout.group_size} completions",
        "dtype": str(policy.dtype).removeprefix("torch."),
        "device": policy.device.type,
    }


def _outcome(run: Path, recipe: Recipe, observer: Observer) -> dict[str, Any]:
    layout = observer.writer.layout
    found: dict[str, Any] = {
        "run": str(run),
        "steps": recipe.steps,
        "train_seconds": observer.train_seconds,
        "chain": observer.writer.head,
        "evaluations": {str(at): hash_file(path) for at, path in layout.evaluations().items()},
    }
    return found | outcome(observer.evaluations, part_labels(recipe.task))
