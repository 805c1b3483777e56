"""A study of two presets and two seeds on a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from covey.build.study import study
from covey.cli.study import study as command
from covey.config import parse
from covey.types import CoveyError

CONFIG = {"family": "llama", "hidden_size": 16, "heads": 2, "kv_heads": 1, "intermediate_size": 16}
VALUES: dict[str, Any] = {
    "steps": 2,
    "threads": 1,
    "model": {"config": CONFIG, "dtype": "float32"},
    "task": {"name": "arithmetic", "low": 0, "high": 9, "prompt": "{a}{op}{b}="},
    "reward": str(Path(__file__).parents[1] / "golden" / "digits.py") + ":digits",
    "rollout": {"problems_per_step": 3, "group_size": 3, "max_new_tokens": 4},
    "eval": {"problems": 4, "samples": 2},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    study(parse(VALUES), folder, presets=["modern", "rloo"], seeds=[0, 1])
    return folder


def test_every_run_is_a_run_and_the_table_has_a_line_a_preset(done: Path) -> None:
    assert {p.name for p in (done / "runs").iterdir()} == {
        "modern-seed0", "modern-seed1", "rloo-seed0", "rloo-seed1",
    }  # fmt: skip
    found = json.loads((done / "study.json").read_text())
    assert [row["preset"] for row in found["presets"]] == ["modern", "rloo"]
    base, other = found["presets"]
    assert base["sampled_change"] is None
    change = other["sampled_change"]
    assert change["mean"] == pytest.approx(other["sampled"]["mean"] - base["sampled"]["mean"])
    assert change["low"] < change["mean"] < change["high"]
    assert len(base["reward"]) == 2
    table = (done / "study.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in table[4:]] == ["`modern`", "`rloo`"]


def test_what_is_done_is_not_done_again_and_what_was_stopped_goes_on(done: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "study"))
    (folder / "runs" / "rloo-seed1" / "summary.json").unlink()
    shutil.rmtree(folder / "runs" / "rloo-seed0")
    kept = (folder / "runs" / "modern-seed0" / "attempts").stat().st_mtime_ns
    again = study(parse(VALUES), folder, presets=["modern", "rloo"], seeds=[0, 1])
    assert again == json.loads((done / "study.json").read_text())
    assert (folder / "runs" / "modern-seed0" / "attempts").stat().st_mtime_ns == kept
    assert len(list((folder / "runs" / "rloo-seed1" / "attempts").iterdir())) == 2


def test_what_cannot_be_compared_is_refused_before_training(done: Path, tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match="did you mean 'grpo'"):
        study(parse(VALUES), tmp_path / "new", presets=["modern", "grppo"], seeds=[0])
    assert not (tmp_path / "new").exists()
    with pytest.raises(CoveyError, match="only once"):
        study(parse(VALUES), tmp_path / "new", presets=["modern", "modern"], seeds=[0])
    with pytest.raises(CoveyError, match="is of another recipe"):
        study(parse(VALUES | {"steps": 3}), done, presets=["modern"], seeds=[0])
    with pytest.raises(CoveyError, match="--seeds takes whole numbers"):
        command(
            Path(__file__).parents[2] / "recipes" / "tiny.toml", presets="modern", seeds="a", out=tmp_path
        )
