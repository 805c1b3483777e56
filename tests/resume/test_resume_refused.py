"""What can't be gone on with is said in one message, and stays as it was."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from covey.build import assemble, train
from covey.build import run as build_run
from covey.build.resume import resume
from covey.config import parse
from covey.records import RunReader, checkpoints, lock, migrations
from covey.types import CoveyError
from small_run import VALUES, Hears, Signals, contents, small


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run that was stopped after two steps."""
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(small(), run, view=Signals(2))
    return run


def refused(run: Path, match: str, **keywords: Any) -> None:
    """Resuming raises one line that matches, and leaves every file as it was."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(CoveyError, match=match) as raised:
        resume(run, **keywords)
    assert "\n" not in str(raised.value)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_is_not_a_run(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    refused(tmp_path / "demo", r"demo is not a run: it has no manifest\.json")
    refused(tmp_path / "demmo", r"there is no run .*demmo; did you mean .*demo\?")


def test_a_run_of_a_newer_schema(stopped: Path) -> None:
    newer = migrations.current_schema() + 1
    path = stopped / "manifest.json"
    path.write_text(path.read_text().replace(f'"schema": {newer - 1}', f'"schema": {newer}', 1))
    refused(stopped, rf"manifest\.json has schema {newer}; .*Upgrade covey")


def test_a_finished_run(whole: Path) -> None:
    refused(whole, r"is finished: it has reached its 4 steps. To train it further: covey resume .* --steps 8")


def test_a_finished_run_whose_checkpoints_are_gone(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, ignore=shutil.ignore_patterns("checkpoints"))
    refused(run, "is finished and has no good checkpoint to be trained further from", steps=6)


def test_fewer_steps_than_are_done(stopped: Path) -> None:
    refused(stopped, r"has completed 2 steps: it can't end after 1", steps=1)


def test_a_changed_recipe_lists_what_differs(stopped: Path) -> None:
    overrides = ["--train.learning-rate", "0.01", "--rollout.group-size=2"]
    refused(
        stopped,
        r"another recipe: rollout\.group_size 6 → 2, train\.learning_rate 0\.003 → 0\.01\. Leave these out .*"
        "--changed",
        overrides=overrides,
    )
    resume(stopped, overrides=overrides, changed=True)

    reader = RunReader(stopped)
    assert reader.recipe()["train"]["learning_rate"] == 0.01
    assert [bool(attempt["recipe"]) for attempt in reader.attempts()] == [False, True]
    assert [len(reader.groups(step)[0].episodes) for step in range(4)] == [6, 6, 2, 2]


def test_an_unknown_key_is_named(stopped: Path) -> None:
    refused(
        stopped, "unknown key 'chekpoint'; did you mean 'checkpoint'", overrides=["--chekpoint.every", "2"]
    )


def test_other_held_out_problems_could_not_be_compared(stopped: Path) -> None:
    refused(
        stopped,
        "measured on other held-out problems",
        overrides=["--eval.problems", "2"],
        changed=True,
    )


def test_data_that_has_changed_since(tmp_path: Path) -> None:
    rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(5) for b in range(5)]
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(parse(VALUES | {"task": {"name": "jsonl", "path": str(data)}}), run, view=Signals(1))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))

    refused(run, r"began with other inputs: data\..*Restore them")


def test_a_checkpoint_of_another_run(stopped: Path, tmp_path: Path) -> None:
    other = train(small(steps=3, train={"learning_rate": 1e-3}), tmp_path / "other").run
    shutil.copytree(other / "checkpoints/000003", stopped / "checkpoints/000003")
    refused(stopped, r"000003 is of another run: its model, data or recipe .* move it away")
    shutil.rmtree(stopped / "checkpoints/000003")
    resume(stopped)


def test_a_checkpoint_that_the_record_does_not_lead_to(whole: Path, stopped: Path) -> None:
    shutil.copytree(whole / "checkpoints/000003", stopped / "checkpoints/000003")
    refused(
        stopped, r"000003 doesn't follow from the record: the link of step 2 in .*chain\.jsonl is missing"
    )


def test_a_record_that_lacks_a_step(stopped: Path) -> None:
    (stopped / "rollouts/000001.jsonl").unlink()
    refused(stopped, r"can't go on after 2 steps: the record of step 1 is missing")


def test_a_full_disk_while_a_checkpoint_is_written(
    whole: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __getattr__(self, name: str) -> Any:
            if name == "write":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return getattr(os, name)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "os", Full())
        with pytest.raises(CoveyError, match="No space left on device"):
            resume(stopped)
    assert sorted(path.name for path in (stopped / "checkpoints").iterdir()) == ["000001", "000002"]
    resume(stopped)
    assert contents(stopped) == contents(whole)


def test_a_full_disk_while_the_model_is_saved(
    whole: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(build_run, "save_policy", full)
        with pytest.raises(CoveyError, match=r"can't write .*/model: No space left on device"):
            resume(stopped)
    assert (stopped / "model").exists()  # the one from when it was stopped
    resume(stopped)
    assert contents(stopped) == contents(whole)


def test_a_read_only_disk(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadOnly:
        def __getattr__(self, name: str) -> Any:
            if name == "open":
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return getattr(os, name)

    with monkeypatch.context() as patch:
        patch.setattr(lock, "os", ReadOnly())
        refused(stopped, r"can't write .*\.lock: Read-only file system\. Nothing recorded so far is lost")
    resume(stopped)


def test_another_machine_is_told_and_recorded(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = assemble.environment

    def elsewhere(**known: Any) -> dict[str, Any]:
        found = real(**known)
        return {**found, "cpu": {**found["cpu"], "model": "Z80"}, "kernels": "others"}

    monkeypatch.setattr(assemble, "environment", elsewhere)
    view = Hears()
    resume(stopped, view=view)

    (said,) = [message for message in view.messages if message.startswith("not where the run began")]
    assert "→ others): its last digits may differ now" in said
    (event,) = [event for event in RunReader(stopped).events() if event["kind"] == "resumed"]
    assert event["step"] == 2
    assert [told.rpartition(" → ")[2] for told in event["elsewhere"]] == ["Z80", "others"]
