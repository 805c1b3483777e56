"""The run that is kept here, done again: bit for bit where it was made, within a tolerance elsewhere.

When it fails because the numbers are meant to have changed: see make.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from covey.audit.made_of import DECISIVE
from covey.audit.replay import replay
from covey.audit.verify import verify
from covey.records import RunReader

ROOT = Path(__file__).parents[2]
RUN = Path("tests", "golden", "run")
STEPS = 8


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The recipe names its reward's file from there, and sets the threads of the whole process."""
    monkeypatch.chdir(ROOT)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_it_replays() -> None:
    """`replay` itself chooses between hashes and tolerance, by the platform the manifest has."""
    report = replay(RUN, steps=STEPS, own_code=True)
    machine, _, *steps = report.checks
    assert report.ok, [check.detail for check in report.checks if check.differences]
    assert len(steps) == STEPS
    unit = "figures within tolerance" if machine.skipped else "parts equal, bit for bit"
    assert {check.unit for check in steps} == {unit}


def test_it_replays_within_the_tolerance_that_holds_elsewhere(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(RUN, tmp_path / "run"))
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace('"torch": "', '"torch": "0.0.'))
    report = replay(copy, steps=STEPS, own_code=True)
    assert report.checks[0].skipped
    assert report.ok, [check.detail for check in report.checks if check.differences]


def test_it_verifies() -> None:
    report = verify(RUN, own_code=True)
    assert report.ok, [check.detail for check in report.checks if check.differences]
    # neither the model nor checkpoints are kept
    skipped = {check.name for check in report.checks if check.status == "skipped"}
    assert skipped == {"saved model", "checkpoints"}


def test_something_happens_in_it() -> None:
    metrics = RunReader(RUN).metrics()
    assert len(metrics) == STEPS
    assert all(row["trained"] and abs(row["loss"]) > 1e-3 for row in metrics)
    assert metrics[-1]["reward"] > 2 * metrics[0]["reward"]


def test_its_manifest_says_on_what_platform_its_bits_hold() -> None:
    manifest = RunReader(RUN).manifest()
    for key in DECISIVE:
        value = manifest
        for part in key.split("."):
            assert part in value, key
            value = value[part]


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in RUN.rglob("*") if path.is_file()) < 200_000
