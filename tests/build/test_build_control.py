"""Runs whose coefficients move: resumed, verified and replayed to the same numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from covey.audit.replay import replay
from covey.audit.verify import verify
from covey.build import assemble
from covey.build.resume import resume
from covey.build.run import train
from covey.config import parse
from covey.records import RunReader
from covey.types import CoveyError

VALUES: dict[str, Any] = {
    "steps": 4,
    "threads": 1,
    "model": {
        "config": {"family": "llama", "hidden_size": 16, "heads": 2, "kv_heads": 1, "intermediate_size": 16},
        "dtype": "bfloat16",
    },
    "task": {"name": "arithmetic", "low": 0, "high": 9, "prompt": "{a}{op}{b}="},
    "reward": str(Path(__file__).parents[1] / "golden" / "digits.py") + ":digits",
    "algorithm": {
        "preset": "grpo",
        "kl_control": {"name": "adaptive", "target": 0.01, "horizon": 20},
        "entropy": {"name": "bonus", "coefficient": 0.02},
        "entropy_control": {"name": "adaptive", "target": 9.0, "delta": 0.01},
    },
    "rollout": {"problems_per_step": 3, "group_size": 3, "max_new_tokens": 4},
    "train": {"learning_rate": 1e-2},
    "eval": {"problems": 2, "samples": 1},
    "checkpoint": {"every": 1, "keep": 9},
    "sentinels": {"constant_reward": "off"},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("control") / "run"
    train(parse(VALUES), run)
    return run


def test_coefficients_are_in_the_metrics_and_move(done: Path) -> None:
    rows = RunReader(done).metrics()
    assert [row["entropy_coefficient"] for row in rows] == pytest.approx([0.02, 0.03, 0.04, 0.05])
    moved = [row["kl_coefficient"] for row in rows]
    assert moved[0] == 0.04
    assert moved[1] < moved[0]  # the policy is still its reference
    assert moved[-1] > moved[1]  # and is further from it than the target later


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_resumed_run_comes_to_the_same_end(done: Path, tmp_path: Path, step: int) -> None:
    run = Path(shutil.copytree(done, tmp_path / "run"))
    (run / "summary.json").unlink()
    for later in range(step + 1, 5):
        shutil.rmtree(run / "checkpoints" / f"{later:06d}")
    resume(run)
    assert RunReader(run).chain() == RunReader(done).chain()
    assert (run / "metrics.jsonl").read_bytes() == (done / "metrics.jsonl").read_bytes()


def test_the_record_is_verified_in_full_and_replayed(done: Path) -> None:
    report = verify(done, own_code=True)
    assert {check.name: check.status for check in report.checks if check.status != "ok"} == {}
    again = replay(done, start=2, steps=2, own_code=True)
    assert [check.name for check in again.checks if check.differences] == []


@pytest.mark.parametrize(
    ("preset", "algorithm"),
    [
        ("rloo", {"kl_control": {"name": "adaptive", "target": 0.01, "horizon": 20}}),
        ("modern", {"entropy": {"name": "bonus", "coefficient": 0.01}}),
        (
            "80-20",
            {
                "entropy": {"name": "bonus", "coefficient": 0.0},
                "entropy_control": {"name": "adaptive", "target": 0.2},
            },
        ),
    ],
)
def test_each_is_verified_with_several_optimizer_steps(
    tmp_path: Path, preset: str, algorithm: dict[str, Any]
) -> None:
    values = VALUES | {
        "steps": 3,
        "algorithm": {"preset": preset, **algorithm},
        "train": {"learning_rate": 1e-2, "mini_batches": 2},
    }
    train(parse(values), tmp_path / "run")
    report = verify(tmp_path / "run", own_code=True)
    assert {check.name: check.status for check in report.checks if check.status != "ok"} == {}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("kl_coefficient", "metrics"),
        ("entropy_coefficient", "metrics"),
        ("kl_sequence", "metrics"),
        ("entropy", "token metrics"),
    ],
)
def test_a_forged_figure_is_found(done: Path, tmp_path: Path, name: str, check: str) -> None:
    run = Path(shutil.copytree(done, tmp_path / "run"))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    at = next(i for i, text in enumerate(lines) if '"step":2' in text.replace(" ", ""))
    row = json.loads(lines[at])
    lines[at] = json.dumps(row | {name: row[name] * 1.5})
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = {one.name: one for one in verify(run, own_code=True).checks}
    assert name in str(found[check].differences)


def test_a_changed_recipe_goes_on_from_what_the_record_says(done: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(done, tmp_path / "run"))
    changed = "--algorithm.entropy-control", '{ name = "adaptive", target = 9.0, delta = 0.03 }'
    resume(run, steps=5, overrides=changed, changed=True)
    # as if it had been so from the first step: 0.02 + 4 · 0.03
    assert RunReader(run).metrics()[4]["entropy_coefficient"] == pytest.approx(0.14)
    assert {check.name for check in verify(run, own_code=True).checks if check.differences} == set()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("--algorithm.kl", "none"), "there is none: choose kl too"),
        (("--algorithm.entropy", "none"), "there is none: choose entropy too"),
        (("--rollout.problems-per-step", "40"), "too short for steps of 120 sequences"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(CoveyError, match=message):
        assemble.prepare(parse(VALUES, overrides))


def test_a_recipe_without_them_keeps_its_identity() -> None:
    written = parse({**VALUES, "algorithm": {"preset": "grpo"}}).model_dump(mode="json")
    assert {"entropy", "kl_control", "entropy_control"}.isdisjoint(written["algorithm"])
