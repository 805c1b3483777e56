"""Checkpoints are whole or absent, whatever the disk does and wherever the process ends."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covey.records import Checkpoints, atomic, checkpoints, migrations
from covey.records.layout import Layout
from covey.types import CoveyError

TENSORS = {"weights.safetensors": b"w" * 3000, "optimizer.safetensors": b"o" * 5000}


class Killed(BaseException):
    """What nobody catches: the process is gone."""


class Disk:
    """Stands for the module `os`, without waiting for the disk. Call number ``fails_at``, counted from
    0, of those that touch it raises ``error``; a write goes half-way before it does."""

    CALLS = ("open", "write", "fsync", "close", "rename", "replace", "mkdir", "unlink", "rmdir")

    def __init__(self, fails_at: int | None = None, error: BaseException | None = None) -> None:
        self.fails_at, self.error = fails_at, error
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real: Callable[..., Any] = getattr(os, name) if name != "fsync" else lambda file: None
        if name not in self.CALLS:
            return real

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) - 1 == self.fails_at and self.error is not None:
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                if name == "close":
                    real(*arguments)  # the descriptor is gone all the same
                raise self.error
            return real(*arguments)

        return call


@pytest.fixture(autouse=True)
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Disk], Disk]:
    def replace(disk: Disk) -> Disk:
        monkeypatch.setattr(checkpoints, "os", disk)
        monkeypatch.setattr(atomic, "os", disk)
        return disk

    replace(Disk())
    return replace


def new(root: Path, *steps: int) -> Checkpoints:
    (root / "checkpoints").mkdir(parents=True)
    made = Checkpoints(Layout(root))
    for step in steps:
        commit(made, step)
    return made


def commit(into: Checkpoints, step: int) -> None:
    into.commit(step, {"step": step}, {name: pieces(data) for name, data in TENSORS.items()})


def commit_and_retain(into: Checkpoints, step: int) -> None:
    commit(into, step)
    into.retain(2)


def pieces(data: bytes) -> Iterator[memoryview]:
    """A file of two writes."""
    yield memoryview(data[:1000])
    yield memoryview(data[1000:])


def loads(held: Checkpoints) -> int:
    """The step of the newest checkpoint, seen to be what was committed."""
    step, _ = held.newest()
    if step:
        folder = held.layout.checkpoint(step)
        assert held.state(step) == {"step": step}
        assert {name: (folder / name).read_bytes() for name in TENSORS} == TENSORS
    return step


def test_what_is_committed_is_found(tmp_path: Path) -> None:
    held = new(tmp_path, 2, 4, 10)

    assert held.newest() == (10, [])
    assert loads(held) == 10


def test_sha256sum_agrees(tmp_path: Path) -> None:
    new(tmp_path, 1)
    folder = tmp_path / "checkpoints/000001"
    for line in (folder / "COMPLETE").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "COMPLETE"], cwd=folder, check=True)


def calls_of_a_commit(tmp_path: Path, on: Callable[[Disk], Disk]) -> list[str]:
    """The disk's part in a commit that goes well, and in the retention after it."""
    held, disk = new(tmp_path / "counted", 1, 2), on(Disk())
    commit_and_retain(held, 3)
    on(Disk())
    return disk.calls


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC", "killed"])
def test_a_failure_at_any_call_leaves_the_newest_complete_checkpoint(
    tmp_path: Path, on: Callable[[Disk], Disk], kind: str
) -> None:
    calls = calls_of_a_commit(tmp_path, on)
    assert {"mkdir", "write", "fsync", "rename", "replace", "unlink", "rmdir"} <= set(calls)
    assert len(calls) > 30
    error = Killed() if kind == "killed" else OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)))
    for k in range(len(calls)):
        held = new(tmp_path / str(k), 1, 2)
        on(Disk(k, error))
        with pytest.raises(Killed if kind == "killed" else CoveyError) as raised:
            commit_and_retain(held, 3)
        on(Disk())
        assert loads(held) in (2, 3), calls[k]
        if kind != "killed":
            assert str(raised.value).startswith("can't write ")
            assert "covey resume" in str(raised.value)
        # and going on makes up for it: nothing half-done stays, nothing is in the way
        held.drop_after(2)
        commit_and_retain(held, 3)
        assert loads(held) == 3
        assert sorted(p.name for p in (tmp_path / str(k) / "checkpoints").iterdir()) == ["000002", "000003"]


def test_a_full_disk_leaves_no_half_of_a_checkpoint_behind(
    tmp_path: Path, on: Callable[[Disk], Disk]
) -> None:
    held = new(tmp_path, 1)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    on(Disk(6, full))
    with pytest.raises(CoveyError, match=r"can't write .*000002: No space left on device"):
        commit(held, 2)

    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["000001"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    held = new(tmp_path / "run", 1, 2)
    folder = held.layout.checkpoint(2)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())), label="file")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="torn"):
        del content[data.draw(st.integers(0, len(content) - 1), label="length") :]
    else:
        content[data.draw(st.integers(0, len(content) - 1), label="place")] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)

    step, passed_over = held.newest()
    assert step == 1
    assert len(passed_over) == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "COMPLETE").unlink(), "it was cut short"),
        (lambda folder: (folder / "state.json").unlink(), "its files aren't those it lists"),
        (lambda folder: (folder / "more").write_text(""), "its files aren't those it lists"),
        (lambda folder: (folder / "COMPLETE").write_text(""), "its files aren't those it lists"),
    ],
)
def test_why_a_checkpoint_is_passed_over_is_said_in_one_line(
    tmp_path: Path, damage: Callable[[Path], Any], said: str
) -> None:
    held = new(tmp_path, 1, 2)
    damage(held.layout.checkpoint(2))

    assert held.newest() == (1, [f"checkpoint {tmp_path}/checkpoints/000002 is passed over: {said}"])


def test_one_that_cannot_be_read_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = new(tmp_path, 1, 2)

    def unreadable(path: Path, *arguments: Any, **keywords: Any) -> Any:
        if path.parent.name == "000002":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *arguments, **keywords)

    real = Path.open
    monkeypatch.setattr(Path, "open", unreadable)
    step, (said,) = held.newest()

    assert step == 1
    assert "passed over: it can't be read (Input/output error)" in said


def test_without_a_checkpoint_the_newest_is_none(tmp_path: Path) -> None:
    assert new(tmp_path).newest() == (0, [])


def test_the_newest_are_kept_and_the_incomplete_are_not(tmp_path: Path) -> None:
    held = new(tmp_path, 1, 2, 3, 4)
    (held.layout.checkpoint(4) / "COMPLETE").unlink()
    (tmp_path / "checkpoints/.000005.tmp").mkdir()
    held.retain(2)

    assert list(held.layout.checkpoints()) == [2, 3]
    assert not (tmp_path / "checkpoints/.000005.tmp").exists()


def test_what_lies_beyond_is_dropped(tmp_path: Path) -> None:
    held = new(tmp_path, *range(1, 5))
    held.drop_after(2)

    assert list(held.layout.checkpoints()) == [1, 2]


def test_a_newer_schema_is_named(tmp_path: Path) -> None:
    held = new(tmp_path, 1)
    state = held.layout.checkpoint(1) / "state.json"
    newer = migrations.current_schema() + 1
    state.write_text(state.read_text().replace(f'"schema": {newer - 1}', f'"schema": {newer}'))

    with pytest.raises(CoveyError, match=rf"state\.json has schema {newer}; this version .* Upgrade covey"):
        held.state(1)


def test_a_short_write_is_continued(tmp_path: Path, on: Callable[[Disk], Disk]) -> None:
    class Slow(Disk):
        def __getattr__(self, name: str) -> Any:
            if name == "write":
                return lambda file, data: os.write(file, bytes(data[:700]))
            return super().__getattr__(name)

    on(Slow())

    assert loads(new(tmp_path, 1)) == 1
