"""Writes a run directory: the recorder of the loop, and all else that is kept of a run."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from covey.records.atomic import disk_errors, sync_folder
from covey.records.chain import link, metrics_part, origin, rollout_parts
from covey.records.files import Appender, read_document, read_lines, write_document, write_lines
from covey.records.layout import Layout
from covey.records.lock import RunLock
from covey.records.migrations import Row
from covey.records.rows import evaluation_rows, group_rows, sample_row
from covey.types import CoveyError, Evaluation, Group, Update


class RunWriter:
    """The one writer of a run directory; a :class:`covey.protocols.Recorder`.

    Make one with :meth:`create` or :meth:`reopen`, and use it as a context manager: leaving it
    writes down why the attempt ended. Every method raises :class:`CoveyError` when the disk is
    full or read-only.
    """

    def __init__(
        self, layout: Layout, lock: RunLock, resumed_from: int | None, recipe: Row | None = None
    ) -> None:
        self.layout = layout
        self.head = ""
        self._lock = lock
        self._metrics = Appender(layout.metrics, "metrics")
        self._timings = Appender(layout.timings, "timings")
        self._events = Appender(layout.events, "events")
        self._chain = Appender(layout.chain, "chain")
        self._groups: tuple[int, Sequence[Group]] = (-1, ())
        self._metrics_row: Row = {}
        self.attempt = 1 + max(layout.attempts(), default=0)
        self._attempt: Row = {"started": _now(), "resumed_from": resumed_from, "recipe": recipe}
        self._attempt |= {"ended": None, "exit": None}
        write_document(layout.attempt(self.attempt), "attempt", self._attempt)
        with disk_errors(layout.root):
            sync_folder(layout.root)

    @classmethod
    def create(cls, path: Path | str) -> Self:
        """Start a new run. Raises :class:`CoveyError` when ``path`` is there and not empty."""
        layout = Layout(Path(path))
        try:
            layout.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CoveyError(
                f"can't create the run directory {layout.root} ({error.strerror}): choose another with --run"
            ) from error
        if not _is_free(layout):
            raise CoveyError(
                f"{layout.root} exists and is not empty: choose another directory with --run, "
                f"or go on with that run: covey resume {layout.root}"
            )
        with _held(layout.lock) as lock:
            _make_folders(layout)
            return cls(layout, lock, resumed_from=None)

    @classmethod
    def reopen(cls, path: Path | str, step: int, recipe: Row | None = None) -> Self:
        """Go on with a run after ``step`` completed steps: what was recorded beyond them is dropped.

        ``recipe`` is the one to go on by, when it isn't that of the attempt before.

        Steps ``0 … step - 1`` and evaluations up to ``step`` stay. Events stay too: they tell what
        happened, and each names its attempt. Killed half-way, it can simply be done again. Raises
        :class:`CoveyError`, before anything is dropped, when the record lacks one of those steps.
        """
        layout = Layout(Path(path))
        if not layout.manifest.exists():
            raise CoveyError(f"{layout.root} is not a run: it has no manifest.json")
        with _held(layout.lock) as lock:
            _make_folders(layout)
            rows = _cut(layout, step)
            run = cls(layout, lock, resumed_from=step, recipe=recipe)
            run.head = rows[-1]["hash"] if rows else origin(read_document(layout.manifest, "manifest"))
            return run

    def manifest(self, content: Mapping[str, Any]) -> None:
        """Write what the run was made of, once."""
        if self.layout.manifest.exists():
            raise ValueError("the manifest is written once")
        write_document(self.layout.manifest, "manifest", dict(content))
        self.head = origin(content)

    def groups(self, step: int, groups: Sequence[Group]) -> None:
        """Record what was sampled at a step, in place of an earlier try at it."""
        rows = (row for index, group in enumerate(groups) for row in group_rows(step, index, group))
        write_lines(self.layout.rollout(step), "rollout", rows)
        self._groups = (step, groups)

    def update(self, step: int, update: Update) -> None:
        """Record what was learned at a step; on the disk when this returns.

        A checkpoint of the step is saved after that, so it can't outlive the record it belongs to.
        """
        reserved = {"step", "trained"} & update.metrics.keys()
        if reserved:
            raise ValueError(f"a metric may not be named {', '.join(sorted(reserved))}")
        recorded = self._groups[1] if self._groups[0] == step else ()
        rollout = Appender(self.layout.rollout(step), "rollout")
        try:
            for sample in update.samples:
                rollout.append(sample_row(step, sample, recorded))
            rollout.sync()
        finally:
            rollout.close()
        self._metrics_row = {"step": step, "trained": update.trained, **update.metrics}
        self._metrics.append(self._metrics_row)
        self._metrics.sync()

    def link(self, step: int, parts: Mapping[str, str]) -> None:
        """Record the chain's link of the step just recorded; on the disk when this returns.

        ``parts`` are the hashes of ``weights`` and ``optimizer`` after the step. ``head`` is the
        hash of the last link.
        """
        with disk_errors(self.layout.chain):
            sampled = rollout_parts(self.layout.rollout(step))
        row = link(step, self.head, {**parts, **sampled, "metrics": metrics_part(self._metrics_row)})
        self._chain.append(row)
        self._chain.sync()
        self.head = row["hash"]

    def evaluation(self, evaluation: Evaluation) -> None:
        """Record the held-out answers after ``evaluation.step`` steps."""
        path = self.layout.evaluation(evaluation.step)
        write_lines(path, "evaluation", evaluation_rows(evaluation))

    def timing(self, step: int, seconds: Mapping[str, float]) -> None:
        """Record wall-clock figures. They differ between equal runs, so metrics never hold them."""
        self._timings.append({"step": step, **seconds})

    def event(self, kind: str, **fields: Any) -> None:
        """Record that something happened, with the time and the attempt it happened in."""
        self._events.append({"time": _now(), "attempt": self.attempt, "kind": kind, **fields})

    def summary(self, content: Mapping[str, Any]) -> None:
        """Write the run's result, as the last thing of a run that reached its end."""
        write_document(self.layout.summary, "summary", dict(content))

    def finish(self, reason: str) -> None:
        """Write down why this attempt ended. An attempt without a reason was killed."""
        self._attempt |= {"ended": _now(), "exit": reason}
        write_document(self.layout.attempt(self.attempt), "attempt", self._attempt)

    def close(self) -> None:
        """Let go of the files and the run."""
        for file in (self._metrics, self._timings, self._events, self._chain):
            file.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if self._attempt["exit"] is not None:
                return
            if error is None:
                self.finish("finished")
                return
            # The failure under way matters more than a disk that can't take its reason.
            with suppress(CoveyError):
                self.finish(_reason(error))
        finally:
            self.close()


@contextmanager
def _held(path: Path) -> Generator[RunLock]:
    """The run's lock, let go again if what is done under it fails."""
    lock = RunLock(path)
    try:
        yield lock
    except BaseException:
        lock.release()
        raise


def _is_free(layout: Layout) -> bool:
    """True for an empty directory, and for what a start leaves that failed before its manifest."""
    entries = {path for path in layout.root.iterdir() if not path.match(".*.tmp")}
    skeleton = {layout.lock, layout.metrics, layout.timings, layout.events, layout.chain, *layout.folders}
    return entries <= skeleton and not layout.rollouts() and not layout.evaluations()


def _make_folders(layout: Layout) -> None:
    for folder in layout.folders:
        with disk_errors(folder):
            folder.mkdir(exist_ok=True)


def _cut(layout: Layout, step: int) -> list[Row]:
    """Drop what was recorded beyond ``step`` completed steps, and mend torn last lines; the links left."""
    kept = {path: _before(step, path) for path in (layout.metrics, layout.timings, layout.chain)}
    recorded = layout.rollouts().keys()
    for path in (layout.metrics, layout.chain):
        recorded &= {row["step"] for row in kept[path]}
    missing = next((s for s in range(step) if s not in recorded), None)
    if missing is not None:
        raise CoveyError(
            f"{layout.root} can't go on after {step} steps: the record of step {missing} is missing. "
            "Resume from an earlier checkpoint"
        )
    for path, rows in kept.items():
        write_lines(path, path.stem, rows)
    write_lines(layout.events, "events", [row for _, row in read_lines(layout.events, "events", [])])
    later = [path for at, path in layout.rollouts().items() if at >= step]
    later += [path for at, path in layout.evaluations().items() if at > step]
    for path in (*later, layout.summary):
        with disk_errors(path):
            path.unlink(missing_ok=True)
    return kept[layout.chain]


def _before(step: int, path: Path) -> list[Row]:
    """The rows of the steps before ``step`` in a file named after its kind."""
    rows: list[Row] = []
    for line, row in read_lines(path, path.stem, []):
        if not isinstance(row.get("step"), int):
            raise CoveyError(f"{path}:{line}: a row without its step; restore the file from a copy")
        if row["step"] < step:
            rows.append(row)
    return rows


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    first_line = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first_line}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
