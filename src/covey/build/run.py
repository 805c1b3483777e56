"""A run from start to end: assemble, loop, measure, save."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covey.build import assemble
from covey.build.observe import Clock, Observer, TimedEngine, TimedLearner, TimedReward
from covey.config import Recipe
from covey.evals.evaluate import difference, summary
from covey.loop import reinforce
from covey.models import Policy, save_policy
from covey.protocols import Reward, Task
from covey.records import RunWriter
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
    known by then. On KeyboardInterrupt the model is saved as it stands before it is raised on.
    """
    view = view or Progress()
    parts = assemble.prepare(recipe, task=task, reward=reward)
    with view, RunWriter.create(run) as writer:
        view.message("loading the model")
        policy = assemble.policy_of(recipe)
        writer.manifest(assemble.manifest_of(parts, policy))
        clock = Clock()
        engine = assemble.engine_of(recipe, policy)
        learner = assemble.learner_of(parts, policy)
        timed = TimedEngine(engine, clock)
        source = assemble.source_of(parts, policy, timed, TimedReward(parts.reward, clock))
        observer = Observer(writer, view, clock, recipe.steps)
        measure = assemble.evaluator_of(parts, policy, engine)

        def evaluate(step: int) -> Evaluation | None:
            if measure is None:
                return None
            with clock("evaluate"):
                return measure(step)

        view.start(_shown(parts, policy, run))
        if measure is None:
            view.message("the task holds no problems out: nothing will be measured before and after")
        clock.take()
        try:
            reinforce(
                source=source,
                learner=TimedLearner(learner, clock),
                engine=timed,
                recorder=observer,
                evaluate=evaluate,
                keep=lambda step: None,
                steps=recipe.steps,
            )
        except KeyboardInterrupt:
            view.message(f"interrupted: saving the model as it stands to {run / 'model'}")
            save_policy(policy, run / "model")
            raise
        save_policy(policy, run / "model")
        outcome = _outcome(run, recipe, observer)
        writer.summary(outcome)
        view.finish(outcome)
    return Result(run, run / "model", outcome)


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
    outcome: dict[str, Any] = {
        "run": str(run),
        "steps": recipe.steps,
        "train_seconds": observer.train_seconds,
    }
    if observer.evaluations:
        before, after = observer.evaluations[0], observer.evaluations[-1]
        outcome["before"], outcome["after"] = summary(before), summary(after)
        outcome["difference"] = {}
        for kind in ("greedy", "sampled"):
            change = difference(getattr(before, kind), getattr(after, kind))
            outcome["difference"][kind] = {"mean": change.mean, "low": change.low, "high": change.high}
    return outcome
