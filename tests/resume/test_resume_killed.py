"""``kill -9`` at any instant, then ``covey resume``: every run ends with the hash of the one left alone."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import covey
from covey.build import run as build_run
from covey.build import train
from covey.build.resume import resume
from covey.config import Recipe
from covey.records import RunReader, atomic, checkpoints, files
from small_run import Killed, contents, small

FORKS = multiprocessing.get_context("forkserver")


@pytest.fixture(autouse=True, scope="module")
def server() -> None:
    """A process that has imported what a run needs; each process of a run is forked from it at once."""
    FORKS.set_forkserver_preload(["covey.build.resume"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(covey.__file__).parents[1]))
        forkserver.ensure_running()


def begin(run: Path, recipe: Recipe) -> BaseProcess:
    """A process that begins the run, or goes on with it."""
    there = (run / "manifest.json").exists()
    target: Callable[..., Any] = resume if there else train
    process = FORKS.Process(target=target, args=(run,) if there else (recipe, run))
    process.start()
    return process


def end(run: Path, recipe: Recipe) -> str:
    """Let the run reach its end, if it hasn't; its last hash."""
    if not (run / "summary.json").exists():
        process = begin(run, recipe)
        process.join()
        assert process.exitcode == 0
    return RunReader(run).chain()[-1]["hash"]


def kill(run: Path, recipe: Recipe, *, links: int, after: float) -> bool:
    """Kill the run's next process so many seconds after the chain has so many links; False when it had
    ended before."""
    process = begin(run, recipe)
    while process.is_alive() and linked(run) < links:
        time.sleep(0.002)
    process.join(after)
    process.kill()
    process.join()
    return process.exitcode != 0


def linked(run: Path) -> int:
    """The links of the chain, 0 before it is begun."""
    chain = run / "chain.jsonl"
    return chain.read_bytes().count(b"\n") - 1 if chain.exists() else 0


def undisturbed(run: Path, recipe: Recipe) -> tuple[str, float]:
    """The last hash of a run that nobody kills, and the seconds it took."""
    end(run.with_name("warm"), recipe)  # the first process also waits for the server's imports
    began = time.monotonic()
    return end(run, recipe), time.monotonic() - began


def test_killed_four_times_in_one_run(tmp_path: Path) -> None:
    recipe, run, draw = small(steps=6, checkpoint={"every": 2}), tmp_path / "run", random.Random(1)
    last = end(tmp_path / "whole", recipe)
    kills = [kill(run, recipe, links=links, after=draw.uniform(0, 0.05)) for links in (1, 2, 4, 5)]

    assert any(kills)
    assert end(run, recipe) == last


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_fifty_instants(tmp_path: Path) -> None:
    recipe, draw = small(steps=12, checkpoint={"every": 2}), random.Random(2)
    last, seconds = undisturbed(tmp_path / "whole", recipe)
    ends: list[str] = []
    for number in itertools.count():
        run = tmp_path / str(number)
        if kill(run, recipe, links=0, after=draw.uniform(0, seconds)):
            ends.append(end(run, recipe))
        shutil.rmtree(run)
        if len(ends) == 50:
            break
    assert ends == [last] * 50


class Dies:
    """Stands for the module `os` in the rooms that write: from call number ``at`` on, nothing more
    reaches the disk."""

    def __init__(self, at: float) -> None:
        self.at, self.calls = at, 0

    def __getattr__(self, name: str) -> Any:
        real: Callable[..., Any] = getattr(os, name)
        if name not in ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
            return real

        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls > self.at:
                raise Killed
            return real(*arguments)

        return call


def until(at: float, run: Path) -> int:
    """A run of two steps up to its disk call number ``at``; how many it has made."""
    disk = Dies(at)
    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        for module in (atomic, checkpoints, files, build_run):
            patch.setattr(module, "os", disk)
        train(small(steps=2), run)
    return disk.calls


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_every_disk_call(tmp_path: Path) -> None:
    calls = until(math.inf, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    assert calls > 100
    for at in range(calls):
        run = tmp_path / str(at)
        until(at, run)
        if not (run / "manifest.json").exists():
            train(small(steps=2), run)
        elif not (run / "summary.json").exists():
            resume(run)
        assert contents(run) == whole, f"killed at call {at} of {calls}"
        shutil.rmtree(run)
