"""A reference that is renewed: what it is at which step, and that a resumed run has the same."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from covey.audit.replay import replay
from covey.audit.verify import verify
from covey.build.resume import resume
from covey.build.run import train
from covey.config import parse
from covey.learn.checkpoint import REFERENCE
from covey.learn.learner import renewed_after
from covey.records import RunReader
from covey.types import CoveyError

VALUES: dict[str, Any] = {
    "steps": 5,
    "threads": 1,
    "model": {
        "config": {"family": "llama", "hidden_size": 16, "heads": 2, "kv_heads": 1, "intermediate_size": 16},
        "dtype": "bfloat16",
    },
    "task": {"name": "arithmetic", "low": 0, "high": 9, "prompt": "{a}{op}{b}="},
    "reward": str(Path(__file__).parents[1] / "golden" / "digits.py") + ":digits",
    "algorithm": {"preset": "grpo"},
    "rollout": {"problems_per_step": 3, "group_size": 3, "max_new_tokens": 4},
    "train": {"learning_rate": 1e-2, "reference_every": 2},
    "eval": {"problems": 2, "samples": 1},
    "checkpoint": {"every": 1, "keep": 9},
    "sentinels": {"constant_reward": "off"},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("reference") / "run"
    train(parse(VALUES), run)
    return run


def test_which_policy_a_step_compares_with() -> None:
    # renewed by steps 2 and 4 themselves, from the policy as it is then; kept for 3 and 5
    assert [renewed_after(step, 2) for step in range(6)] == [0, 0, 0, 2, 0, 4]
    assert [renewed_after(step, 0) for step in range(3)] == [0, 0, 0]


def test_the_policy_is_at_its_reference_when_that_is_renewed(done: Path) -> None:
    apart = [row["kl_ref"] for row in RunReader(done).metrics()]
    assert [value == 0 for value in apart] == [True, False, True, False, True]
    frozen = parse(VALUES | {"train": {"learning_rate": 1e-2}})
    train(frozen, done.parent / "frozen")
    others = [row["kl_ref"] for row in RunReader(done.parent / "frozen").metrics()]
    assert [value == 0 for value in others] == [True, False, False, False, False]
    assert others[:2] == apart[:2]


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_resumed_run_comes_to_the_same_end(done: Path, tmp_path: Path, step: int) -> None:
    run = Path(shutil.copytree(done, tmp_path / "run"))
    (run / "summary.json").unlink()
    for later in range(step + 1, 6):
        shutil.rmtree(run / "checkpoints" / f"{later:06d}")
    resume(run)
    assert RunReader(run).chain() == RunReader(done).chain()


def test_a_checkpoint_has_the_reference_that_nothing_else_tells(done: Path) -> None:
    held = {folder.name for folder in (done / "checkpoints").iterdir() if (folder / REFERENCE).exists()}
    assert held == {"000003", "000005"}


def test_the_record_is_verified_and_replayed(done: Path, tmp_path: Path) -> None:
    report = verify(done, own_code=True)
    assert [check.name for check in report.checks if check.differences] == []
    again = replay(done, start=3, steps=2, own_code=True)
    assert [check.name for check in again.checks if check.differences] == []
    run = Path(shutil.copytree(done, tmp_path / "run"))
    shutil.copyfile(run / "checkpoints" / "000005" / REFERENCE, run / "checkpoints" / "000003" / REFERENCE)
    told = [check for check in verify(run, own_code=True).checks if check.name == "checkpoints"]
    assert "hash of the reference" in str(told[0].differences)


def test_another_reference_in_a_checkpoint_is_refused(done: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(done, tmp_path / "run"))
    (run / "summary.json").unlink()
    for name in ("000004", "000005"):
        shutil.rmtree(run / "checkpoints" / name)
    folder = run / "checkpoints" / "000003"
    shutil.copyfile(folder / "weights.safetensors", folder / REFERENCE)
    _sign(folder)
    with pytest.raises(CoveyError, match="its reference's weights aren't those that step 1 ended with"):
        resume(run)


def _sign(folder: Path) -> None:
    """List the files' checksums anew, as whoever exchanges one would."""
    lines = (folder / "COMPLETE").read_text().splitlines()
    names = [line.split("  ")[1] for line in lines]
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "COMPLETE").write_text("".join(sums))


def test_renewing_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match=r"train\.reference_every renews a reference, but nothing here"):
        train(parse(VALUES | {"algorithm": {"preset": "modern"}}), tmp_path / "run")


def test_a_recipe_without_it_keeps_its_identity() -> None:
    assert "reference_every" not in json.dumps(parse({**VALUES, "train": {}}).model_dump(mode="json"))
