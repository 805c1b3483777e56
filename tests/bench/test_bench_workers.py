"""The processes that benchmarks measure in: they answer, are stopped while they wait, and fail loudly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import workers
from harness.others import OURS, Others
from harness.workers import Worker

ECHO = """
from harness.channel import Channel, forget_peak, peak_gb, serve, settings
channel = Channel()
print("what a library prints is not an answer")
channel.send(started=settings())
def allocate(megabytes):
    forget_peak()
    block = bytearray(b"x") * (megabytes << 20)
    return {"peak_gb": peak_gb(), "bytes": len(block)}
serve(channel, {"add": lambda a, b: {"sum": a + b}, "fail": lambda: 1 // 0, "allocate": allocate})
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COVEY_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(workers, "SCRIPTS", tmp_path)
    (tmp_path / "echo.py").write_text(ECHO)
    return "echo"


def state(process: int) -> str:
    """R running, S waiting, T stopped."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_worker_answers_and_is_stopped_while_it_waits(echo: str) -> None:
    with Worker(echo, {"model": "m"}, threads=1) as worker:
        assert worker.facts == {"started": {"model": "m"}}
        process = worker._process.pid
        assert process in OURS
        for a in (1, 2):
            assert worker.call("add", a=a, b=40) == {"sum": a + 40}
            assert state(process) == "T"
    assert process not in OURS
    assert not Path(f"/proc/{process}").exists()


def test_what_fails_is_told_with_its_traceback(echo: str) -> None:
    with Worker(echo, threads=1) as worker, pytest.raises(SystemExit, match="ZeroDivisionError"):
        worker.call("fail")


def test_a_worker_that_dies_is_told_with_the_end_of_its_log(echo: str, tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text("raise RuntimeError('no such library')")
    with pytest.raises(SystemExit, match="no such library"):
        Worker(echo, threads=1)


def test_peaks_are_of_the_call(echo: str) -> None:
    """300 MiB are 0.315 GB; a later, smaller call must not be told the earlier one's peak."""
    with Worker(echo, threads=1) as worker:
        large, small = (worker.call("allocate", megabytes=m)["peak_gb"] for m in (300, 1))
    assert large > 0.3
    assert small < large - 0.25


def test_ones_own_work_is_nobody_elses(echo: str) -> None:
    """What a worker uses is counted as ours while it lives and after it has ended."""
    others = Others()
    _, _, before = others._now()
    with Worker(echo, threads=1) as worker:
        worker.call("allocate", megabytes=300)
        _, _, during = others._now()
    _, _, after = others._now()
    assert before < during <= after


def test_coveys_worker_samples_the_lengths_asked_for_and_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVEY_BENCH_CACHE", str(tmp_path))
    groups = [{"prompt_ids": [5, 6, 7], "lengths": [1, 4]}, {"prompt_ids": [8, 9], "lengths": [3, 2]}]
    with Worker("covey_parts", {"model": {"family": "llama"}, "dtype": "float32"}, threads=1) as covey:
        sampled = covey.call("rollout", groups=groups)
        learned = covey.call("update")
    assert sampled["tokens"] == 10
    assert learned["micro_batches"] >= 1
    assert json.dumps(learned)
