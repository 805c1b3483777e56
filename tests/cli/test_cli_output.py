"""What a run prints, in each way of printing; and how it ends when it is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from covey.cli import main
from covey.records import RunReader

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "recipes" / "tiny.toml")
SMALL = (
    "--steps", "2", "--rollout.problems-per-step", "2", "--rollout.group-size", "4",
    "--rollout.refills", "0", "--eval.problems", "2", "--eval.samples", "2",
    "--model.config.hidden_size", "16", "--model.config.intermediate_size", "16",
)  # fmt: skip

Covey = Callable[..., tuple[int, str, str]]


@pytest.fixture
def covey(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Covey:
    """Call the command line in this process: (exit code, stdout, stderr)."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["covey", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_lines_where_there_is_no_terminal(covey: Covey, tmp_path: Path) -> None:
    code, out, err = covey("train", TINY, "--run", str(tmp_path / "run"), *SMALL)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "\x1b" not in out
    assert sum(line.startswith(("step 1/2", "step 2/2")) for line in lines) == 2
    assert sum(line.startswith("held-out after ") for line in lines) == 2
    assert str(tmp_path / "run") in lines[-1]


def test_quiet_prints_only_the_result(covey: Covey, tmp_path: Path) -> None:
    code, out, _ = covey("train", TINY, "--run", str(tmp_path / "run"), "--quiet", *SMALL)
    assert code == 0
    [line] = out.splitlines()
    assert line.startswith("2 steps in ")
    assert str(tmp_path / "run") in line


def test_json_is_an_object_a_line(covey: Covey, tmp_path: Path) -> None:
    code, out, _ = covey("train", TINY, "--run", str(tmp_path / "run"), "--json", *SMALL)
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert all(isinstance(row, dict) for row in rows)
    recorded = RunReader(tmp_path / "run").metrics()
    shown = [row for row in rows if "metrics" in row]
    assert [row["metrics"]["reward"] for row in shown] == [row["reward"] for row in recorded]


def test_a_run_without_a_name_finds_one(
    covey: Covey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, _ = covey("train", TINY, "--quiet", *SMALL)
    assert code == 0
    [run] = (tmp_path / "runs").iterdir()
    assert run.name.startswith("tiny-")
    assert (run / "summary.json").exists()


def test_plan_reads_as_text_too(covey: Covey) -> None:
    code, out, _ = covey("plan", TINY, "--steps", "7", "--rollout.group-size", "5")
    assert code == 0
    assert "[batch]" in out
    figures = dict(line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  "))
    assert figures["steps"] == "7"
    assert figures["completions_per_step"] == "40"  # 8 problems × 5
    assert out.count("[prompt ") == 2


@pytest.mark.parametrize("command", ["eval", "plan", "train"])
def test_a_recipe_that_isn_t_there(covey: Covey, command: str) -> None:
    code, out, err = covey(command, "nowhere.toml")
    assert (code, out) == (1, "")
    assert err == "covey: can't read the recipe nowhere.toml: No such file or directory\n"


def test_eval_of_a_directory_that_is_no_run(covey: Covey, tmp_path: Path) -> None:
    code, _, err = covey("eval", str(tmp_path))
    assert code == 1
    assert str(tmp_path) in err
    assert len(err.splitlines()) == 1


def test_eval_measures_the_model_of_a_recipe_before_any_training(covey: Covey) -> None:
    code, out, _ = covey("eval", TINY, *SMALL[2:])
    assert code == 0
    assert out.startswith("greedy   0.")
    assert "2 problems, 6 completions" in out  # one greedy and two sampled each


def test_a_context_too_short_for_the_answers(covey: Covey, tmp_path: Path) -> None:
    code, _, err = covey("train", TINY, "--run", str(tmp_path / "run"), "--rollout.max-new-tokens", "500")
    assert code == 1
    assert "prompt tokens and rollout.max_new_tokens = 500 exceed the model's context of 512" in err


def test_nothing_scored_is_no_difference_and_no_crash(covey: Covey, tmp_path: Path) -> None:
    """A grader that never scores: the run is stopped or ends, and the summary has no interval."""
    (tmp_path / "own.py").write_text(
        "def none(completions, **columns):\n    return [None] * len(completions)\n"
    )
    words = ("--reward", f"{tmp_path / 'own.py'}:none", "--sentinels.unscored", "warn", *SMALL)
    code, _, err = covey("train", TINY, "--run", str(tmp_path / "run"), *words)
    assert (code, err) == (0, "")
    summary = RunReader(tmp_path / "run").summary()
    assert summary is not None
    assert summary["difference"] == {}
    assert summary["after"]["greedy"] == {"mean": None, "low": None, "high": None}
    assert summary["after"]["unscored"] == summary["after"]["completions"] == 6


def test_ctrl_c_saves_what_there_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", TINY, "--run", str(run), *SMALL[2:], "--steps", "100000", "--plain"]
    process = subprocess.Popen(
        [sys.executable, "-m", "covey", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT / "src",
    )
    metrics = run / "metrics.jsonl"
    for _ in range(1200):  # until three steps are recorded: a guard of two minutes, not a measurement
        if process.poll() is not None or (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted" in out
    attempt = json.loads((run / "attempts" / "0001.json").read_text())
    assert attempt["exit"].startswith("interrupted")
    assert not (run / "summary.json").exists()
    assert AutoModelForCausalLM.from_pretrained(run / "model").config.hidden_size == 16
