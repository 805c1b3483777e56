"""A study of two presets and two seeds on a tiny model."""

from __future__ import annotations

import csv
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import covey.build.study as module
from covey.build.study import study
from covey.cli.study import study as command
from covey.config import parse
from covey.records import RunReader
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
    assert set(base["rewards"]) == {"0", "1"}
    assert base["reward"][0] == pytest.approx((base["rewards"]["0"][0] + base["rewards"]["1"][0]) / 2)
    table = (done / "study.md").read_text().split("\n\n")
    for part in (table[1], table[3], table[5]):
        assert [line.split("|")[1].strip() for line in part.strip().splitlines()[2:]] == [
            "`modern`",
            "`rloo`",
        ]
    assert "| `rloo` | leave_one_out | none | reinforce | sequence_sum | k1 (coefficient 0.03) |" in table[5]


def test_what_is_to_be_committed_names_the_runs_and_draws_every_curve(done: Path) -> None:
    found = json.loads((done / "study.json").read_text())
    for row in found["presets"]:
        for seed in ("0", "1"):
            name = f"{row['preset']}-seed{seed}"
            run = RunReader(done / "runs" / name)
            assert (done / "manifests" / f"{name}.json").read_bytes() == run.layout.manifest.read_bytes()
            assert row["runs"][seed]["chain"] == run.chain()[-1]["hash"]
    with (done / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["preset"], r["seed"], r["step"]) for r in rows] == [
        (preset, seed, step) for seed in "01" for preset in ("modern", "rloo") for step in "01"
    ]
    svg = ET.fromstring((done / "curves.svg").read_text())
    lines = svg.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2 * 2 + 2 + 1  # a line a seed, a mean a preset, the first preset's behind the second
    assert all(len(line.get("points", "").split()) == 2 for line in lines)


def test_a_finished_run_leaves_its_record_and_weights_when_asked(done: Path, tmp_path: Path) -> None:
    assert not (done / "runs" / "rloo-seed0" / "model").exists()
    assert not list((done / "runs" / "rloo-seed0" / "checkpoints").iterdir())
    study(parse(VALUES), tmp_path, presets=["rloo"], seeds=[0], weights=True)
    assert (tmp_path / "runs" / "rloo-seed0" / "model" / "config.json").exists()
    both = [RunReader(root / "runs" / "rloo-seed0").chain()[-1]["hash"] for root in (done, tmp_path)]
    assert both[0] == both[1]


def test_a_run_that_is_stopped_is_told_of_and_the_others_are_compared(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = Path(shutil.copytree(done, tmp_path / "study")), module.resume

    def stopped(run: Path, **options: Any) -> Any:
        raise CoveyError("entropy is gone")

    (folder / "runs" / "rloo-seed1" / "summary.json").unlink()
    monkeypatch.setattr(module, "resume", stopped)
    lines: list[str] = []
    found = study(parse(VALUES), folder, presets=["modern", "rloo"], seeds=[0, 1], told=lines.append)
    assert "  not finished: entropy is gone" in lines
    assert found["unfinished"] == {"rloo-seed1": "entropy is gone"}
    base, other = found["presets"]
    assert (base["seeds"], other["seeds"]) == ([0, 1], [0])
    # seed 0's four problems are paired, modern's seed 1 has nobody to be paired with
    assert (other["sampled_change"]["pairs"], other["sampled_change"]["left_out"]) == (4, 4)
    assert "`rloo-seed1` is not finished: entropy is gone" in (folder / "study.md").read_text()
    monkeypatch.setattr(module, "resume", real)
    again = study(parse(VALUES), folder, presets=["modern", "rloo"], seeds=[0, 1])
    assert not again["unfinished"]


def test_nothing_is_swallowed_that_keeps_runs_from_starting(tmp_path: Path) -> None:
    values = VALUES | {"rollout": VALUES["rollout"] | {"max_new_tokens": 100_000}}
    with pytest.raises(CoveyError, match="exceed the model's context"):
        study(parse(values), tmp_path, presets=["modern"], seeds=[0, 1])


def test_what_is_done_is_not_done_again_and_what_was_stopped_goes_on(done: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "study"))
    (folder / "runs" / "rloo-seed1" / "summary.json").unlink()
    shutil.rmtree(folder / "runs" / "rloo-seed0")
    kept = (folder / "runs" / "modern-seed0" / "attempts").stat().st_mtime_ns
    again = study(parse(VALUES), folder, presets=["modern", "rloo"], seeds=[0, 1])
    assert _untimed(again) == _untimed(json.loads((done / "study.json").read_text()))
    assert (folder / "runs" / "modern-seed0" / "attempts").stat().st_mtime_ns == kept
    assert len(list((folder / "runs" / "rloo-seed1" / "attempts").iterdir())) == 2


def _untimed(found: dict[str, Any]) -> dict[str, Any]:
    """Without what another start changes: how long it took, and the manifest's environment."""
    for row in found["presets"]:
        row["runs"] = {seed: run["chain"] for seed, run in row["runs"].items()}
    return found


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
