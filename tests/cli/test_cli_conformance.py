"""``covey conformance``: a line a row, a summary, and an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from covey.cli.conformance import conformance

COMMITTED = Path(__file__).parents[1] / "algo" / "fixtures" / "grpo_fixtures.json"


def test_every_row_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance(COMMITTED) == 0
    *rows, summary = capsys.readouterr().out.splitlines()
    assert summary == "382 of 382 rows agree to 1e-12 in float64"
    assert len(rows) == 382
    assert all(row.startswith("ok ") for row in rows)


def test_float32_has_a_tolerance_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance(COMMITTED, dtype="float32") == 0
    assert capsys.readouterr().out.endswith("382 of 382 rows agree to 1e-05 in float32\n")


def test_a_difference_is_shown_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(COMMITTED.read_text())
    content["case_a"]["advantages"]["rloo"][0] += 0.5
    content["case_a"]["advantages"]["brand_new"] = [1.0]
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(content))
    assert conformance(path) == 1
    out = capsys.readouterr().out
    failed = [line for line in out.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 2
    assert failed[0].startswith("FAIL  case_a.advantages.rloo  expected [")
    assert failed[1] == "FAIL  unknown: case_a.advantages.brand_new  nothing of that name is known here"
    assert out.endswith("381 of 383 rows agree to 1e-12 in float64\n")


def test_a_broken_file_says_which_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are evaluated all the same; the command fails."""
    content = json.loads(COMMITTED.read_text())
    content["misc"]["pass_at_k"] = 3
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(content))
    assert conformance(path) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert failed == ["FAIL  misc.pass_at_k  row misc.pass_at_k: must be a table, not 3"]
