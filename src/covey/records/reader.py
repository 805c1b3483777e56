"""Reads a run directory back into the nouns of ``covey.types``. It never writes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from covey.records.files import read_document, read_lines
from covey.records.layout import Layout
from covey.records.migrations import Row
from covey.records.rows import answer_from_row, groups_from_rows, metric_values, sample_from_row
from covey.types import CoveyError, Evaluation, Group, Sample

Result = TypeVar("Result")


class RunReader:
    """A run directory, finished or still being written.

    ``warnings`` collects what was left out while reading: last lines cut short by a kill, or by
    a writer that is in the middle of one. All else that is broken is a :class:`CoveyError` naming
    file and line. Nothing is cached: each call sees the files as they are.
    """

    def __init__(self, path: Path | str) -> None:
        self.layout = Layout(Path(path))
        self.warnings: list[str] = []
        if not self.layout.manifest.exists():
            raise CoveyError(_not_a_run(self.layout.root))

    def manifest(self) -> Row:
        return read_document(self.layout.manifest, "manifest")

    def summary(self) -> Row | None:
        """The run's result, or None while it has none."""
        return read_document(self.layout.summary, "summary") if self.layout.summary.exists() else None

    def attempts(self) -> list[Row]:
        """Each start of the run: ``started``, ``resumed_from``, ``recipe`` (where it changed), ``ended``,
        ``exit``."""
        return [read_document(path, "attempt") for path in self.layout.attempts().values()]

    def metrics(self) -> list[Row]:
        """One row a step: ``step``, ``trained`` and the update's metrics."""
        return self._read(self.layout.metrics, "metrics", lambda rows: [metric_values(r) for r in rows])

    def chain(self) -> list[Row]:
        """The links by ``step``, as `covey.records.chain` describes them."""
        return self._read(self.layout.chain, "chain", list)

    def recipe(self) -> Row:
        """The recipe the run now goes by: the manifest's, or that of the last attempt which changed it."""
        changed = [attempt["recipe"] for attempt in self.attempts() if attempt.get("recipe")]
        return changed[-1] if changed else self.manifest()["recipe"]

    def timings(self) -> list[Row]:
        """Wall-clock figures by ``step``."""
        return self._read(self.layout.timings, "timings", lambda rows: [metric_values(r) for r in rows])

    def events(self) -> list[Row]:
        """What happened: ``time``, ``attempt``, ``kind`` and the fields of that kind."""
        return self._read(self.layout.events, "events", list)

    def steps(self) -> list[int]:
        """The steps whose rollouts are recorded, in order."""
        return list(self.layout.rollouts())

    def groups(self, step: int) -> list[Group]:
        """What was sampled at a step."""
        return self._read(self._rollout(step), "rollout", groups_from_rows)

    def samples(self, step: int) -> list[Sample]:
        """What was trained on at a step; empty when nothing was, or the update isn't recorded yet."""
        groups = self.groups(step)
        return self._read(
            self._rollout(step),
            "rollout",
            lambda rows: [sample_from_row(row, groups) for row in rows if row["kind"] == "sample"],
        )

    def evaluations(self) -> list[Evaluation]:
        """The held-out answers, by the number of steps completed before them."""
        return [
            self._read(path, "evaluation", lambda rows, step=step: _evaluation(step, rows))
            for step, path in self.layout.evaluations().items()
        ]

    def _rollout(self, step: int) -> Path:
        path = self.layout.rollout(step)
        if not path.exists():
            steps = self.steps()
            known = f"steps {steps[0]} to {steps[-1]} are" if steps else "none is"
            raise CoveyError(f"{self.layout.root} has no record of step {step}: {known} recorded")
        return path

    def _read(self, path: Path, kind: str, decode: Callable[[Iterator[Row]], Result]) -> Result:
        """Decode a file's rows, and say at which line it failed if it did."""
        line = 1

        def rows() -> Iterator[Row]:
            nonlocal line
            for line, row in read_lines(path, kind, self.warnings):  # noqa: B007
                yield row

        try:
            return decode(rows())
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise CoveyError(
                f"{path}:{line}: not a {kind} row ({type(error).__name__}: {error}); "
                "restore the file from a copy"
            ) from error


def _evaluation(step: int, rows: Iterator[Row]) -> Evaluation:
    answers: dict[str, list[Any]] = {"greedy": [], "sampled": []}
    for row in rows:
        answers[row["draw"]].append(answer_from_row(row))
    return Evaluation(step, tuple(answers["greedy"]), tuple(answers["sampled"]))


def _not_a_run(path: Path) -> str:
    if path.exists():
        return f"{path} is not a run: it has no manifest.json"
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"; did you mean {path.parent / near[0]}?" if near else ""
    return f"there is no run {path}{hint}"
