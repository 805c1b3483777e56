"""SIGTERM and Ctrl-C end a run soon, wherever they find it, and what is saved is a completed step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from covey.build import train
from covey.build.interrupt import Interrupted, Interrupts
from covey.build.resume import resume
from covey.engines.local import LocalEngine
from covey.evals.evaluate import Evaluator
from covey.learn import Optimizer, PolicyLearner
from covey.models import Decoder
from covey.records import Checkpoints, RunReader, RunWriter
from covey.rewards.pooled import Pooled
from small_run import Signals, contents, small

PLACES: dict[str, tuple[type, str, int, int]] = {
    # where the signal comes: class, method, in the first call after so many links of the chain;
    # and the number of steps that are complete when the run has ended
    "before anything": (LocalEngine, "load", 0, 0),
    "sampling": (Decoder, "step", 1, 1),
    "grading": (Pooled, "submit", 1, 1),
    "recording groups": (RunWriter, "groups", 1, 1),
    "learning": (PolicyLearner, "backward", 1, 1),
    "the optimizer step": (Optimizer, "step", 1, 2),
    "recording the update": (RunWriter, "update", 1, 2),
    "linking": (RunWriter, "link", 1, 2),
    "evaluating": (Evaluator, "measure", 2, 2),
    "committing a checkpoint": (Checkpoints, "commit", 2, 2),
    "removing old ones": (Checkpoints, "retain", 2, 2),
}


@contextmanager
def signalled(owner: type, method: str, links: int, times: int = 1) -> Iterator[None]:
    """Raise SIGTERM ``times`` at the beginning of the first call after so many ``links`` of the chain."""
    linked, left = 0, times
    link, real = RunWriter.link, getattr(owner, method)

    def counted(*arguments: Any) -> None:
        nonlocal linked
        link(*arguments)
        linked += 1

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        nonlocal left
        if linked == links:
            for _ in range(left):
                left -= 1
                signal.raise_signal(signal.SIGTERM)
        return (counted if real is link else real)(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "link", counted)
        patch.setattr(owner, method, wrapped)
        yield


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_anywhere_leaves_a_completed_step(whole: Path, tmp_path: Path, place: str) -> None:
    owner, method, links, completed = PLACES[place]
    run = tmp_path / "run"
    with signalled(owner, method, links), pytest.raises(Interrupted, match="SIGTERM"):
        train(small(checkpoint={"every": 2}), run)

    reader = RunReader(run)
    event = reader.events()[-1]
    assert (event["kind"], event["completed"], event["saved"]) == ("interrupted", completed, completed)
    assert Checkpoints(reader.layout).newest() == (completed, [])
    resume(run)
    links = [[{**row, "hash": ""} for row in RunReader(path).chain()] for path in (run, whole)]
    assert links[0] == links[1]
    for name in ("metrics.jsonl", "model/model.safetensors", "evals/000004.jsonl"):
        assert contents(run)[name] == contents(whole)[name]


def test_a_step_of_several_mini_batches_is_completed_once_it_has_moved_the_weights(tmp_path: Path) -> None:
    recipe = small(train={"mini_batches": 2})
    whole, run = train(recipe, tmp_path / "whole").run, tmp_path / "run"
    with signalled(Optimizer, "step", 1), pytest.raises(Interrupted):  # the first of the step's two
        train(recipe, run)
    assert RunReader(run).events()[-1]["saved"] == 2
    resume(run)

    assert contents(run) == contents(whole)


@pytest.mark.parametrize("method", ["commit", "retain"])
def test_more_signals_change_nothing(whole: Path, tmp_path: Path, method: str) -> None:
    run = tmp_path / "run"
    with signalled(Checkpoints, method, 2, times=3), pytest.raises(Interrupted):
        train(small(), run)
    resume(run)

    assert contents(run) == contents(whole)


def test_ctrl_c_is_told_apart_by_the_exit_code(tmp_path: Path) -> None:
    codes: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(Interrupted) as raised:
            train(small(), tmp_path / str(number), view=Signals(1, number))
        codes.append(raised.value.exit_code)
    assert codes == [143, 130]  # 128 + 15 and 128 + 2


def test_the_handlers_are_those_from_before_when_it_is_over() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Interrupts():
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] != before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def run() -> None:
        with Interrupts() as interrupts, interrupts.harmless():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_grader_that_waits_is_ended_at_once(tmp_path: Path) -> None:
    """The signal comes while a grader sleeps for far longer than the test may take."""

    def slow(completions: list[Any]) -> list[float]:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        time.sleep(1000)
        return [0.0] * len(completions)

    from covey.rewards.functions import from_function

    with pytest.raises(Interrupted):
        train(small(), tmp_path / "run", reward=from_function(slow))


def test_a_signal_outside_harmless_code_waits_for_the_next_check() -> None:
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            interrupts.check()
        with pytest.raises(Interrupted), interrupts.harmless():
            pytest.fail("nothing more is begun")


def test_one_that_swallows_the_interrupt_is_asked_again() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted), interrupts.harmless():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            interrupts.check()


def test_the_command_exits_with_143(tmp_path: Path) -> None:
    root, run = Path(__file__).parents[2], tmp_path / "run"
    arguments = ["train", str(root / "recipes/tiny.toml"), "--run", str(run), "--plain", "--steps", "100000"]
    with subprocess.Popen(
        [sys.executable, "-c", "from covey.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        shown: list[str] = []
        for line in process.stdout:
            shown.append(line)
            if line.startswith("step 2/"):
                process.terminate()
    assert process.returncode == 143  # 128 + 15
    assert shown[-1].startswith("saved after ")
    assert shown[-1].endswith(f"go on with: covey resume {run}\n")
