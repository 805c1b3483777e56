"""`covey verify RUN`: everything that a record implies, recomputed from the record alone.

The machine that trained isn't needed, nor its speed: no model is run. What was sampled is decoded
and graded again, what was trained is worked out again from recorded log-probs, evaluations are given
their recorded tokens, and hashes are taken of what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from covey.audit.findings import Check, Report
from covey.audit.links import chain_checks
from covey.audit.meaning import Meanings
from covey.audit.measured import measured_checks
from covey.audit.origin import origin_checks
from covey.audit.recorded import Record
from covey.audit.sampled import sampled_checks
from covey.audit.trained import trained_checks

NOT_COVERED = {
    "timings.jsonl": "wall-clock seconds; summary.json's train_seconds with them",
    "events.jsonl": "notes and their times",
    "attempts/": "when it was started, resumed and ended; a recipe changed on the way is taken as it stands",
    "manifest.json: code, environment": "the author's statement of what ran where; nothing here implies it",
    "summary.json: run": "the folder's name when it was written",
}
"""What may be edited without a check noticing, and why."""


def verify(run: Path, *, own_code: bool = False) -> Report:
    """Check a run's record against itself.

    ``own_code`` allows a task, a reward or a loss of the author's own to be imported and called; without it
    what needs the first two is skipped. Raises CoveyError for what isn't a run that this version can read,
    and for an own loss that isn't allowed.
    """
    record = Record(run)
    with closing(Meanings(record, own_code=own_code)) as meanings:
        checks = list(_checks(record, meanings))
    return Report(run, checks, _notes(record), NOT_COVERED)


def _checks(record: Record, meanings: Meanings) -> Iterator[Check]:
    yield record.reading
    yield from origin_checks(record, meanings)
    yield from sampled_checks(record, meanings)
    yield from trained_checks(record, meanings)
    yield from measured_checks(record, meanings)
    yield from chain_checks(record, meanings)


def _notes(record: Record) -> list[str]:
    begun = [step.step for step in record.steps if step.metrics is None]
    notes = list(dict.fromkeys(record.reader.warnings))
    return notes + [f"step {step} was begun and has no update yet" for step in begun]
