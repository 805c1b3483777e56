"""What the runs of a study came to, side by side, read from their records."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, TypeAlias

from covey.config import Recipe
from covey.evals.evaluate import scored
from covey.evals.study import Cells, change, level
from covey.records import RunReader, hash_file
from covey.types import Interval

Runs: TypeAlias = Mapping[tuple[str, int], RunReader | str]
"""(preset, seed) → the finished run, or why there is none."""

FIGURES = ("reward", "length_mean", "truncated", "entropy", "grad_norm", "clip_low", "clip_high")
"""The metrics a study keeps of every step, beside those of every step's record."""


def compared(recipe: Recipe, runs: Runs, presets: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """``study.json``. A preset's figures are of its finished seeds, its differences of the seeds that it
    shares with the first preset; None where there are none."""
    done = {preset: _finished(runs, preset, seeds) for preset in presets}
    return {
        "baseline": presets[0],
        "seeds": list(seeds),
        "steps": recipe.steps,
        "problems": recipe.eval.problems,
        "samples": recipe.eval.samples,
        "presets": [_row(preset, done[preset], done[presets[0]], presets[0]) for preset in presets],
        "unfinished": {
            f"{preset}-seed{seed}": told
            for (preset, seed), told in runs.items()
            if isinstance(told, str) and seed in seeds
        },
        "code": sorted({_code(reader) for readers in done.values() for reader in readers.values()}),
        "recipe": recipe.model_dump(mode="json"),
    }


def curves(runs: Runs) -> str:
    """``curves.csv``: a line for each step of each finished run."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("preset", "seed", "step", *FIGURES))
    for (preset, seed), reader in runs.items():
        if isinstance(reader, RunReader):
            for row in reader.metrics():
                table.writerow((preset, seed, row["step"], *(row.get(name, "") for name in FIGURES)))
    return text.getvalue()


def _finished(runs: Runs, preset: str, seeds: Sequence[int]) -> dict[int, RunReader]:
    found = ((seed, runs.get((preset, seed))) for seed in seeds)
    return {seed: reader for seed, reader in found if isinstance(reader, RunReader)}


def _row(
    preset: str, readers: Mapping[int, RunReader], base: Mapping[int, RunReader], baseline: str
) -> dict[str, Any]:
    row: dict[str, Any] = {"preset": preset, "seeds": list(readers)}
    row["algorithm"] = next((reader.manifest()["algorithm"] for reader in readers.values()), None)
    for draw in ("greedy", "sampled"):
        before, after = (_cells(readers, draw, at) for at in (0, -1))
        row[draw] = _json(level(after)) if after else None
        row[f"{draw}_before"] = _json(level(before)) if before else None
        row[f"{draw}_gain"] = _difference(before, after)
        row[f"{draw}_change"] = (
            None if preset == baseline else _difference(_cells(base, draw, -1), _cells(readers, draw, -1))
        )
    metrics = {seed: reader.metrics() for seed, reader in readers.items()}
    for name in FIGURES:
        row[name] = _over_seeds([[step.get(name) for step in steps] for steps in metrics.values()])
    row["rewards"] = {str(seed): [step.get("reward") for step in steps] for seed, steps in metrics.items()}
    row["heldout"] = _heldout(readers)
    row["tokens"] = sum(step["tokens_sampled"] for steps in metrics.values() for step in steps)
    row["runs"] = {str(seed): _identity(reader) for seed, reader in readers.items()}
    return row


def _difference(before: Cells, after: Cells) -> dict[str, Any] | None:
    """Over the cells that both have: an answer that could not be graded says nothing of either."""
    both = sorted(before.keys() & after.keys())
    if not both:
        return None
    return _json(change({key: before[key] for key in both}, {key: after[key] for key in both})) | {
        "pairs": len(both),
        "left_out": len(before.keys() ^ after.keys()),
    }


def _cells(readers: Mapping[int, RunReader], draw: str, at: int) -> Cells:
    return {
        (seed, problem): values
        for seed, reader in readers.items()
        for problem, values in scored(getattr(reader.evaluations()[at], draw)).items()
    }


def _heldout(readers: Mapping[int, RunReader]) -> list[list[float]]:
    """[step, mean sampled score] of each evaluation."""
    points: dict[int, list[float]] = {}
    for reader in readers.values():
        for evaluation in reader.evaluations():
            means = [fmean(values) for values in scored(evaluation.sampled).values()]
            points.setdefault(evaluation.step, []).extend(means)
    return [[step, fmean(means)] for step, means in sorted(points.items()) if means]


def _identity(reader: RunReader) -> dict[str, Any]:
    """What names a run: the end of its hash chain, and its manifest's bytes."""
    summary = reader.summary() or {}
    return {
        "chain": reader.chain()[-1]["hash"],
        "manifest_sha256": hash_file(reader.layout.manifest),
        "train_seconds": summary.get("train_seconds"),
    }


def _code(reader: RunReader) -> str:
    return reader.manifest()["code"]["source_sha256"]


def _over_seeds(several: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The mean at each step over the runs that have a value there."""
    steps = zip(*several, strict=True) if several else ()
    there = ([value for value in values if value is not None] for values in steps)
    return [fmean(values) if values else None for values in there]


def _json(interval: Interval) -> dict[str, float | None]:
    """A bound that isn't there is None: JSON has no infinity."""
    bounds = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: value if math.isfinite(value) else None for name, value in bounds.items()}
