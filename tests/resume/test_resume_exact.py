"""A run that was stopped ends as the one that wasn't: byte for byte."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

import covey
from covey.build import train
from covey.build.resume import resume
from covey.cli import main
from covey.records import RunReader
from covey.rewards.functions import from_function
from covey.types import CoveyError
from digits import digits
from small_run import Hears, Killed, Kills, Signals, contents, small


def stop(run: Path, after: int, **changes: object) -> Path:
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        train(small(**changes), run, view=Signals(after))
    return run


def kill(run: Path, after: int, **changes: object) -> Path:
    with pytest.raises(Killed):
        train(small(**changes), run, view=Kills(after))
    return run


def test_the_run_that_is_compared_with_does_learn(whole: Path) -> None:
    reader = RunReader(whole)
    assert all(row["trained"] and row["grad_norm"] > 1e-3 for row in reader.metrics())
    assert any(abs(row["loss"]) > 1e-4 for row in reader.metrics())
    assert len({row["weights"] for row in reader.chain()}) == 4  # the weights moved at every step


@pytest.mark.parametrize("after", [1, 2, 3])
def test_stopped_and_resumed_is_the_same_run(whole: Path, tmp_path: Path, after: int) -> None:
    run = stop(tmp_path / "run", after)
    result = resume(run)

    assert contents(run) == contents(whole)
    assert RunReader(run).attempts()[-1]["resumed_from"] == after
    there = json.loads((whole / "summary.json").read_text())
    free = {"train_seconds": None, "run": None}
    assert result.summary | free == {k: v for k, v in there.items() if k not in ("schema", "file")} | free


def test_the_same_with_truncated_sampling(tmp_path: Path) -> None:
    cut = {"rollout": {"top_k": 12, "top_p": 0.9}}
    whole = train(small(**cut), tmp_path / "whole").run
    run = stop(tmp_path / "run", 2, **cut)
    resume(run)

    assert b'"kept"' in (run / "rollouts" / "000002.jsonl").read_bytes()
    assert contents(run) == contents(whole)


def test_the_same_in_bf16_with_master_weights(tmp_path: Path) -> None:
    bf16 = {"model": {"dtype": "bfloat16"}}
    whole = train(small(**bf16), tmp_path / "whole").run
    run = stop(tmp_path / "run", 2, **bf16)
    resume(run)

    assert contents(run) == contents(whole)


@pytest.mark.parametrize(("every", "after", "found"), [(1, 3, 2), (2, 3, 2), (3, 3, 0), (0, 2, 0)])
def test_killed_and_resumed_is_the_same_run(
    whole: Path, tmp_path: Path, every: int, after: int, found: int
) -> None:
    """``found`` is the step of the newest checkpoint: the one of ``after`` was still to be written."""
    run = kill(tmp_path / "run", after, checkpoint={"every": every})
    resume(run, overrides=["--checkpoint.every", "1"])

    ours, theirs = contents(run), contents(whole)
    assert RunReader(run).attempts()[-1]["resumed_from"] == found
    # the chain hangs on the manifest, which says how often this run was to save
    apart = {"chain.jsonl", "checkpoints/000004/state.json", "checkpoints/000004/COMPLETE"}
    if every != 1:
        assert {name for name in theirs if ours[name] != theirs[name]} == apart
        links = [[{**row, "hash": ""} for row in RunReader(path).chain()] for path in (run, whole)]
        assert links[0] == links[1]
    else:
        assert ours == theirs


def test_stopped_again_and_again(whole: Path, tmp_path: Path) -> None:
    run = stop(tmp_path / "run", 1)
    for after in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            resume(run, view=Signals(after))
    resume(run)

    assert contents(run) == contents(whole)
    assert [a["resumed_from"] for a in RunReader(run).attempts()] == [None, 1, 2, 3]
    assert [a["exit"] for a in RunReader(run).attempts()] == ["interrupted"] * 3 + ["finished"]


def test_stopped_after_the_last_step_only_the_evaluation_is_left(whole: Path, tmp_path: Path) -> None:
    run = stop(tmp_path / "run", 4)
    assert not (run / "evals/000004.jsonl").exists()
    resume(run)

    assert contents(run) == contents(whole)


def test_a_stop_before_the_first_step_loses_nothing(whole: Path, tmp_path: Path) -> None:
    class AtOnce(Hears):
        def evaluation(self, step: int, summary: object) -> None:
            signal.raise_signal(signal.SIGTERM)

    run = tmp_path / "run"
    view = AtOnce()
    with pytest.raises(KeyboardInterrupt):
        train(small(), run, view=view)
    assert view.messages[-1] == f"saved after 0 steps; go on with: covey resume {run}"
    resume(run)

    assert contents(run) == contents(whole)


def test_a_corrupt_checkpoint_is_passed_over_in_one_line(whole: Path, tmp_path: Path) -> None:
    run = stop(tmp_path / "run", 3)
    weights = run / "checkpoints/000003/weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    view = Hears()
    resume(run, view=view)

    said = f"checkpoint {run}/checkpoints/000003 is passed over: weights.safetensors is corrupt"
    assert [m for m in view.messages if m.startswith(said)] == [f"{said} (its checksum differs)"]
    assert RunReader(run).attempts()[-1]["resumed_from"] == 2
    assert contents(run) == contents(whole)


def test_without_any_checkpoint_it_begins_again(whole: Path, tmp_path: Path) -> None:
    run = stop(tmp_path / "run", 2)
    shutil.rmtree(run / "checkpoints")
    resume(run)

    assert contents(run) == contents(whole)


def test_a_torn_last_line_is_mended(whole: Path, tmp_path: Path) -> None:
    run = stop(tmp_path / "run", 2)
    for name in ("metrics", "chain", "timings", "events"):
        with (run / f"{name}.jsonl").open("ab") as file:
            file.write(b'{"step":2,"has')
    resume(run)

    assert contents(run) == contents(whole)


def test_a_finished_run_trains_on_as_if_it_had_never_ended(whole: Path, tmp_path: Path) -> None:
    run = train(small(steps=2), tmp_path / "run").run
    resume(run, steps=4)

    links = [[{**row, "hash": ""} for row in RunReader(path).chain()] for path in (run, whole)]
    assert links[0] == links[1]
    model = "model/model.safetensors"
    assert (run / model).read_bytes() == (whole / model).read_bytes()
    assert RunReader(run).recipe()["steps"] == 4
    assert RunReader(run).manifest()["recipe"]["steps"] == 2  # it is written once


def test_a_run_with_a_live_reward_is_resumed_with_it(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(
            small(reward={"name": "no_such_module:mine"}), run, view=Signals(2), reward=from_function(digits)
        )
    with pytest.raises(CoveyError, match="can't import 'no_such_module'"):
        resume(run)
    covey.resume(run, reward=digits, view="quiet")

    ours, theirs = contents(run), contents(whole)
    assert all(ours[name] == theirs[name] for name in ("metrics.jsonl", "model/model.safetensors"))


def test_the_command_resumes(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stop(tmp_path / "run", 2)
    codes: list[object] = []
    for _ in range(2):
        monkeypatch.setattr("sys.argv", ["covey", "resume", str(run), "--plain"])
        with pytest.raises(SystemExit) as ended:
            main()
        codes.append(ended.value.code)

    assert codes == [0, 1]  # resumed; then there is nothing left to do
    out, err = capsys.readouterr()
    assert "going on after 2 of 4 steps" in out
    assert err.startswith(f"covey: {run} is finished")
    assert contents(run) == contents(whole)


def test_only_the_newest_checkpoints_are_kept(whole: Path) -> None:
    assert [path.name for path in sorted((whole / "checkpoints").iterdir())] == ["000003", "000004"]


@pytest.mark.parametrize("killed", [False, True])
def test_several_optimizer_steps_on_a_rollout_resume_as_well(tmp_path: Path, killed: bool) -> None:
    several = {"train": {"epochs": 2, "mini_batches": 2}, "algorithm": {"preset": "rloo"}}
    whole = train(small(**several), tmp_path / "whole").run
    run = (kill if killed else stop)(tmp_path / "run", 2, **several)
    resume(run)

    assert contents(run) == contents(whole)
    state = json.loads((run / "checkpoints/000004/state.json").read_text())
    assert state["policy_version"] == 16  # 4 rollouts × 2 epochs × 2 mini-batches
