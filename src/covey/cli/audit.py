"""``covey verify``, ``covey replay`` and ``covey compare``: may a record be believed, what does it say?"""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from covey.view.text import safe

if TYPE_CHECKING:
    from covey.audit.compare import Comparison
    from covey.audit.findings import Check, Report


def verify(run: Path, *, own_code: bool = False, json: bool = False) -> int:
    """Recompute a run from its record alone; exit code 1 when anything differs.

    Parameters
    ----------
    run
        The run directory, which is only read.
    own_code
        Import and call a task or reward of the author's own that the recipe names.
    json
        Print one JSON object.
    """
    from covey.audit.verify import verify as verify_run

    report = verify_run(run, own_code=own_code)
    if json:
        return _json(report)
    for check in report.checks:
        _line(check)
    for name, why in report.not_covered.items():
        print(f"{'free':8} {name}: {why}")
    return _end(report)


def replay(
    run: Path,
    *,
    steps: int = 1,
    start: Annotated[int, Parameter(name="--from")] = 0,
    own_code: bool = False,
    json: bool = False,
) -> int:
    """Do steps of a run again and compare hashes; exit code 1 when one differs.

    Parameters
    ----------
    run
        The run directory, which is only read.
    steps
        How many steps.
    start
        The step to begin with, of which the run must have a checkpoint; 0 is its start.
    own_code
        Import and call a task or reward of the author's own that the recipe names.
    json
        Print one JSON object.
    """
    from covey.audit.replay import replay as replay_run

    report = replay_run(run, steps=steps, start=start, own_code=own_code, told=_quiet if json else _line)
    return _json(report) if json else _end(report)


def compare(one: Path, other: Path, *, json: bool = False) -> None:
    """Show in what two runs differ, and the difference of their results with its interval.

    Parameters
    ----------
    one
        A run directory.
    other
        The run directory to compare it with.
    json
        Print one JSON object.
    """
    from covey.audit.compare import compare as compare_runs
    from covey.records.numbers import spell

    found = compare_runs(one, other)
    if json:
        print(jsonlib.dumps(spell(found.as_json())))
        return
    _differences(found)
    _results(found)


def _line(check: Check) -> None:
    # a record may be a stranger's: what stands in it can't be let loose on a terminal
    print(f"{check.status:8} {check.name:18} {safe(check.detail)}", flush=True)


def _quiet(check: Check) -> None:
    """Nothing is printed before the whole JSON object."""


def _json(report: Report) -> int:
    print(jsonlib.dumps(report.as_json()))
    return 0 if report.ok else 1


def _end(report: Report) -> int:
    for note in report.notes:
        print(f"{'note':8} {safe(note)}")
    failed = [check.name for check in report.checks if check.differences]
    skipped = sum(check.status == "skipped" for check in report.checks)
    said = f"{len(report.checks) - len(failed) - skipped} checks ok"
    said += f", {skipped} skipped" if skipped else ""
    print(f"{said}, {len(failed)} FAILED: {', '.join(failed)}" if failed else said)
    return 1 if failed else 0


def _differences(found: Comparison) -> None:
    for section, several in found.differs.items():
        print(f"[{section}]" + ("" if several else " the same"))
        for one in several:
            print(f"  {safe(str(one))}")
    print(f"[chain] {safe(found.chain)}")


def _results(found: Comparison) -> None:
    one, other = found.steps
    print(f"[results] on held-out problems, after {one} steps → after {other} steps")
    if found.obstacle:
        print(f"  not compared: {safe(found.obstacle)}")
    for outcome in found.outcomes:
        print(
            f"  {outcome.draw:8} {_interval(outcome.one)} → {_interval(outcome.other)}, "
            f"{outcome.verdict}: {_interval(outcome.change)}, paired over {outcome.problems} problems"
        )


def _interval(value: dict[str, Any]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
