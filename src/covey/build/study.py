"""A study: several presets, several seeds, one recipe; each run is an ordinary run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from covey.build.assemble import prepare
from covey.build.resume import resume
from covey.build.run import train
from covey.config import Recipe, parse
from covey.evals.evaluate import scored
from covey.evals.study import Cells, change, level
from covey.records import RunReader
from covey.types import CoveyError, Interval
from covey.view.charts import sparkline
from covey.view.progress import Progress


def study(
    recipe: Recipe,
    folder: Path,
    *,
    presets: Sequence[str],
    seeds: Sequence[int],
    told: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train ``recipe`` with every preset and seed, and write ``study.json`` and ``study.md``.

    Runs are kept in ``folder/runs``: finished ones are taken as they are, interrupted ones resumed.
    Differences are to the first preset, paired by seed and held-out problem. Raises CoveyError before
    anything is trained for a preset that can't be, and for a run there of another recipe.
    """
    if len(set(presets)) < len(presets) or len(set(seeds)) < len(seeds) or not presets or not seeds:
        raise CoveyError("a study needs at least one preset and one seed, and each only once")
    plan = {(preset, seed): _variant(recipe, preset, seed) for preset in presets for seed in seeds}
    for preset in presets:
        if not prepare(plan[preset, seeds[0]]).heldout:
            raise CoveyError("[task] holds no problems out: there is nothing to compare presets on")
    runs: dict[tuple[str, int], RunReader] = {}
    for number, ((preset, seed), variant) in enumerate(plan.items(), 1):
        told(f"run {number} of {len(plan)}: {preset}, seed {seed}")
        runs[preset, seed] = _carried_out(variant, folder / "runs" / f"{preset}-seed{seed}")
    found = _found(recipe, runs, presets, seeds)
    (folder / "study.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "study.md").write_text(markdown(found), encoding="utf-8")
    return found


def _variant(recipe: Recipe, preset: str, seed: int) -> Recipe:
    values = recipe.model_dump(mode="json")
    values["algorithm"]["preset"], values["seed"] = preset, seed
    return parse(values)


def _carried_out(recipe: Recipe, run: Path) -> RunReader:
    if not (run / "manifest.json").exists():
        train(recipe, run, view=Progress())
        return RunReader(run)
    reader = RunReader(run)
    if reader.recipe() != recipe.model_dump(mode="json"):
        raise CoveyError(f"{run} is of another recipe: choose another --out, or move it away")
    if reader.summary() is None:
        resume(run, view=Progress())
    return reader


def _found(
    recipe: Recipe, runs: Mapping[tuple[str, int], RunReader], presets: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    rows = []
    for preset in presets:
        readers = {seed: runs[preset, seed] for seed in seeds}
        row: dict[str, Any] = {"preset": preset}
        for draw in ("greedy", "sampled"):
            cells, first = (_cells({s: runs[p, s] for s in seeds}, draw) for p in (preset, presets[0]))
            row[draw] = _json(level(cells))
            row[f"{draw}_change"] = None if preset == presets[0] else _json(change(first, cells))
        rewards = [[step.get("reward") for step in reader.metrics()] for reader in readers.values()]
        row["reward"] = [_mean(several) for several in zip(*rewards, strict=True)]
        row["chains"] = {str(seed): reader.chain()[-1]["hash"] for seed, reader in readers.items()}
        rows.append(row)
    return {
        "baseline": presets[0],
        "seeds": list(seeds),
        "steps": recipe.steps,
        "presets": rows,
        "recipe": recipe.model_dump(mode="json"),
    }


def _cells(readers: Mapping[int, RunReader], draw: str) -> Cells:
    return {
        (seed, problem): values
        for seed, reader in readers.items()
        for problem, values in scored(getattr(reader.evaluations()[-1], draw)).items()
    }


def _json(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def markdown(found: Mapping[str, Any]) -> str:
    """The table of a study: scores at the end, and differences to the first preset."""
    base = found["baseline"]
    lines = [
        f"{len(found['seeds'])} seeds, {found['steps']} steps. Held-out scores after training, with 95 % "
        "intervals clustered by seed and problem; differences paired by seed and problem.",
        "",
        f"| preset | greedy | greedy, less `{base}` | sampled | sampled, less `{base}` | training reward |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["presets"]:
        cells = [_cell(row[name]) for name in ("greedy", "greedy_change", "sampled", "sampled_change")]
        lines.append(f"| `{row['preset']}` | {' | '.join(cells)} | {_curve(row['reward'])} |")
    return "\n".join(lines) + "\n"


def _cell(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return "–"
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _curve(values: Sequence[float | None], width: int = 24) -> str:
    """From the first step to the last, between its own extremes; steps without a score are left out."""
    there = [value for value in values if value is not None]
    return f"{there[0]:.3f} {sparkline(there, width)} {there[-1]:.3f}" if there else "–"


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None
