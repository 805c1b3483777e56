"""A scaffold that runs as it is: its own test passes, and a few steps are trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import covey
from covey.cli import app
from covey.cli.init import FILES
from covey.config import load
from covey.types import CoveyError

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(covey.__file__).parents[1])}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_it_writes_tests_and_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "own"
    app(["init", str(folder)], result_action="return_value")
    shown = capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ["cd", "python", "covey", "covey"]

    tested = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "4 passed" in tested.stdout

    trying, train = (line.split()[1:] for line in shown.splitlines()[3:5])
    tried = run(folder, "-m", "covey", *trying)
    assert tried.returncode == 0, tried.stdout + tried.stderr

    trained = run(folder, "-m", "covey", *train, "--steps", "3", "--threads", "1", "--json")
    assert trained.returncode == 0, trained.stderr
    summary = json.loads((folder / "runs" / "first" / "summary.json").read_text())
    assert summary["steps"] == 3
    rows = (folder / "runs" / "first" / "metrics.jsonl").read_text().splitlines()
    assert any(json.loads(row).get("trained") for row in rows)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "reward.py").write_text("mine", encoding="utf-8")
    with pytest.raises(CoveyError, match=r"has reward.py already, and nothing is overwritten"):
        app(["init", str(tmp_path)], result_action="return_value")
    assert [path.name for path in tmp_path.iterdir()] == ["reward.py"]
    assert (tmp_path / "reward.py").read_text(encoding="utf-8") == "mine"


def test_a_place_that_can_t_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CoveyError, match=r"can't write to .*file"):
        app(["init", str(tmp_path / "file")], result_action="return_value")


def test_another_model_may_be_named(tmp_path: Path) -> None:
    app(["init", str(tmp_path / "own"), "--model", 'a "quoted" name'], result_action="return_value")
    assert load(tmp_path / "own" / "recipe.toml").model.name == 'a "quoted" name'
