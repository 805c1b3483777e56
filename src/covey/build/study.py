"""A study: several presets, several seeds, one recipe; each run is an ordinary run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from covey.build.assemble import prepared
from covey.build.compared import Runs, compared, curves
from covey.build.resume import resume
from covey.build.run import train
from covey.config import Recipe, parse
from covey.records import RunReader
from covey.types import CoveyError
from covey.view.panels import panels
from covey.view.progress import Progress
from covey.view.study import markdown


def study(
    recipe: Recipe,
    folder: Path,
    *,
    presets: Sequence[str],
    seeds: Sequence[int],
    weights: bool = False,
    told: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train ``recipe`` with every preset and seed, and compare what they came to.

    Runs are kept in ``folder/runs``: finished ones are taken as they are, interrupted ones resumed. All
    presets of a seed come before the next seed, so that a study cut short compares like with like. A
    finished run leaves its record, which `covey verify` reads, and its ``weights`` only when asked for:
    thirty models with their checkpoints fill a disk. A run that a sentinel or its reward stops is told
    of and the study goes on; it is tried again when the study is.

    Beside them, and small enough to be committed: ``study.md``, ``study.json``, ``curves.csv``,
    ``curves.svg`` and every run's manifest. They are written after each seed, of the runs that are done.
    Differences are to the first preset, paired by seed and held-out problem.

    Raises CoveyError before anything is trained for a preset that can't be, for a run there of another
    recipe, and for whatever keeps a run from being started.
    """
    if len(set(presets)) < len(presets) or len(set(seeds)) < len(seeds) or not presets or not seeds:
        raise CoveyError("a study needs at least one preset and one seed, and each only once")
    plan = {(preset, seed): _variant(recipe, preset, seed) for seed in seeds for preset in presets}
    for preset in presets:
        with prepared(plan[preset, seeds[0]]) as parts:
            there = len(parts.heldout)
        if not there:
            raise CoveyError("[task] holds no problems out: there is nothing to compare presets on")
    for (preset, seed), variant in plan.items():
        _same_recipe(variant, folder / "runs" / f"{preset}-seed{seed}")
    runs: dict[tuple[str, int], RunReader | str] = {}
    found: dict[str, Any] = {}
    for number, ((preset, seed), variant) in enumerate(plan.items(), 1):
        told(f"run {number} of {len(plan)}: {preset}, seed {seed}")
        run = folder / "runs" / f"{preset}-seed{seed}"
        runs[preset, seed] = outcome = _carried_out(variant, run)
        if isinstance(outcome, str):
            told(f"  not finished: {outcome}")
        elif not weights:
            _lighten(run)
        if number % len(presets) == 0:
            so_far = seeds[: number // len(presets)]
            found = compared(recipe, runs, presets, so_far)
            _write(folder, found, runs)
    return found


def _variant(recipe: Recipe, preset: str, seed: int) -> Recipe:
    values = recipe.model_dump(mode="json")
    values["algorithm"]["preset"], values["seed"] = preset, seed
    return parse(values)


def _same_recipe(recipe: Recipe, run: Path) -> None:
    if (run / "manifest.json").exists() and RunReader(run).recipe() != recipe.model_dump(mode="json"):
        raise CoveyError(f"{run} is of another recipe: choose another --out, or move it away")


def _carried_out(recipe: Recipe, run: Path) -> RunReader | str:
    """The finished run, or why there is none. What stops it before it has begun is raised."""
    try:
        if not (run / "manifest.json").exists():
            train(recipe, run, view=Progress())
        elif RunReader(run).summary() is None:
            resume(run, view=Progress())
    except CoveyError as error:
        if not (run / "manifest.json").exists():
            raise
        return str(error)
    return RunReader(run)


def _lighten(run: Path) -> None:
    """Leave the record of a finished run, without its weights."""
    shutil.rmtree(run / "model", ignore_errors=True)
    for checkpoint in (run / "checkpoints").glob("*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _write(folder: Path, found: dict[str, Any], runs: Runs) -> None:
    manifests = folder / "manifests"
    manifests.mkdir(exist_ok=True)
    for (preset, seed), run in runs.items():
        if isinstance(run, RunReader):
            shutil.copyfile(run.layout.manifest, manifests / f"{preset}-seed{seed}.json")
    for name, text in (
        ("study.json", json.dumps(found, indent=1) + "\n"),
        ("study.md", markdown(found)),
        ("curves.csv", curves(runs)),
        ("curves.svg", panels(found)),
    ):
        (folder / name).write_text(text, encoding="utf-8")
