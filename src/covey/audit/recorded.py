"""A whole run as its record has it, and whether every row is one that Covey would write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from covey.audit.findings import Check, Place, first_difference
from covey.config import Recipe, parse
from covey.records import RunReader
from covey.records.files import encode, read_lines
from covey.records.migrations import Row
from covey.records.rows import evaluation_rows, group_rows, sample_row
from covey.types import CoveyError, Evaluation, Group, Sample


@dataclass(frozen=True)
class Step:
    """One step: what was sampled, what of it was trained, its metrics. ``metrics`` is None for a last
    step whose update wasn't recorded to its end before the run was stopped."""

    step: int
    groups: list[Group]
    samples: list[Sample]
    metrics: Row | None


class Record:
    """Reads a run once, keeping what can be read; ``reading`` is the check that says what can't.

    ``recipes`` are the first steps of the recipes it went by, of which the first is the manifest's.
    Raises CoveyError for a folder that isn't a run, for a newer schema, and for a recipe that doesn't
    parse.
    """

    def __init__(self, run: Path) -> None:
        self.reader = RunReader(run)
        self.layout = self.reader.layout
        self.manifest = self.reader.manifest()
        self.recipes = recipes(self.reader)
        self.reading = Check("record", "rows are as they are written")
        self.metrics = self._metrics()
        self.chain = self._chain()
        self.steps = [step for number in self.reader.steps() if (step := self._step(number)) is not None]
        self.evaluations = self._evaluations()
        self._whole()

    @property
    def folder(self) -> Path:
        return self.layout.root

    @property
    def completed(self) -> list[Step]:
        """The steps whose update is recorded."""
        return [step for step in self.steps if step.metrics is not None]

    @property
    def unbroken(self) -> list[Step]:
        """The steps from the first on without a gap: what a stream of draws can be followed through."""
        return [step for number, step in enumerate(self.steps) if step.step == number]

    def version(self, step: int) -> int:
        """The policy's version before a step: how many optimizer steps were taken until then."""
        before = [row for at, row in self.metrics.items() if at < step and row.get("trained")]
        return sum(int(row.get("optimizer_steps", 1)) for row in before)

    @cached_property
    def summary(self) -> Row | None:
        return self.reader.summary()

    def _metrics(self) -> dict[int, Row]:
        try:
            rows = self.reader.metrics()
        except CoveyError as error:
            self.reading.fault({"file": "metrics.jsonl"}, str(error))
            return {}
        metrics: dict[int, Row] = {}
        for index, row in enumerate(rows):
            number = row.get("step")
            if number == index:
                metrics[index] = row
            else:
                self.reading.fault({"step": index}, f"its row in metrics.jsonl says step {number}")
        return metrics

    def _chain(self) -> list[Row]:
        try:
            return self.reader.chain()
        except CoveyError as error:
            self.reading.fault({"file": "chain.jsonl"}, str(error))
            return []

    def _step(self, number: int) -> Step | None:
        place = {"step": number}
        path = self.layout.rollout(number)
        try:
            groups, samples = self.reader.groups(number), self.reader.samples(number)
            rows = read_lines(path, "rollout", [])
        except CoveyError as error:
            self.reading.fault(place, str(error))
            return None
        written = [row for index, group in enumerate(groups) for row in group_rows(number, index, group)]
        written += [sample_row(number, sample, groups) for sample in samples]
        self._as_written(place, path, rows, written)
        return Step(number, groups, samples, self.metrics.get(number))

    def _evaluations(self) -> list[Evaluation]:
        try:
            evaluations = self.reader.evaluations()
        except CoveyError as error:
            self.reading.fault({"folder": "evals"}, str(error))
            return []
        for evaluation in evaluations:
            path = self.layout.evaluation(evaluation.step)
            rows = read_lines(path, "evaluation", [])
            written = list(evaluation_rows(evaluation))
            self._as_written({"evaluation": evaluation.step}, path, rows, written)
        return evaluations

    def _as_written(self, place: Place, path: Path, rows: list[tuple[int, Row]], written: list[Row]) -> None:
        """Each row must say what the writer says of the same nouns, and nothing else."""
        self.reading.same(place, f"number of rows in {path.name}", len(rows), len(written))
        for (line, row), wanted in zip(rows, written, strict=False):
            canonical = json.loads(encode(wanted))
            self.reading.count += 1
            if found := first_difference(row, canonical):
                place = place_of(canonical) | {"line": line}
                self.reading.differs(place, *found)

    def _whole(self) -> None:
        """No step may be missing, and only the last may lack its update."""
        there = {step.step for step in self.steps} | {d.place.get("step") for d in self.reading.differences}
        for number in range(max([*self.metrics, *self.reader.steps()], default=-1) + 1):
            if number not in there:
                self.reading.fault({"step": number}, f"{self.layout.rollout(number).name} is missing")
        for step in self.steps[:-1]:
            if step.metrics is None:
                self.reading.fault({"step": step.step}, "its row in metrics.jsonl is missing")


def recipes(reader: RunReader) -> list[tuple[int, Recipe]]:
    """The first step of each recipe that a run went by, and the recipe; the first is the manifest's.

    Raises CoveyError when one is missing or doesn't parse.
    """
    recorded = reader.manifest().get("recipe")
    if not isinstance(recorded, dict):
        raise CoveyError(f"{reader.layout.manifest} has no recipe: it isn't the manifest of a whole run")
    now = parse(recorded, where=str(reader.layout.manifest))
    found = [(0, now)]
    for path, attempt in zip(reader.layout.attempts().values(), reader.attempts(), strict=True):
        if attempt.get("recipe"):
            now = parse(attempt["recipe"], where=str(path))
        if start := attempt.get("resumed_from"):
            found = [*((at, recipe) for at, recipe in found if at < start), (start, now)]
        elif attempt.get("recipe"):
            found = [(0, now)]
    return found


def place_of(row: Row) -> dict[str, int | str]:
    """The place a rollout or evaluation row speaks of."""
    if row["kind"] == "answer":
        return {"evaluation": row["step"], "draw": row["draw"], "problem": row["problem_id"]}
    return {name: row[name] for name in ("step", "group", "sample") if name in row}
