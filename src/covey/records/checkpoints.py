"""Checkpoints: folders that are there as a whole or not at all.

::

    checkpoints/000010/state.json      what JSON can say of the state after ten steps
                       *.safetensors   the tensors
                       COMPLETE        the SHA-256 of each of them, as `sha256sum --check` reads it

A folder is written under a temporary name, reaches the disk (fsync), gets its name, and last of all
its ``COMPLETE``. A kill between any two of these leaves the checkpoints before it as they were.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from covey.records.atomic import disk_errors, sync_folder
from covey.records.files import document, read_document
from covey.records.layout import Layout
from covey.records.migrations import Row

COMPLETE = "COMPLETE"
STATE = "state.json"


class Checkpoints:
    """The checkpoints of one run, each named after the number of steps completed before it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def state(self, step: int) -> Row:
        """What `commit` was given as state. Raises CoveyError when it is of a newer schema."""
        return read_document(self.layout.checkpoint(step) / STATE, "checkpoint")

    def commit(self, step: int, state: Row, tensors: Mapping[str, Iterable[memoryview]]) -> None:
        """Save a checkpoint: its state, and files of ``tensors`` given piece by piece.

        Raises CoveyError when the disk is full or read-only; what was written of it is removed then.
        """
        final = self.layout.checkpoint(step)
        temporary = final.with_name(f".{final.name}.tmp")
        files = {STATE: [memoryview(document("checkpoint", state))], **tensors}
        with disk_errors(final):
            try:
                _remove(temporary)
                _remove(final)  # what an earlier try left
                os.mkdir(temporary)
                sums = "".join(f"{_write(temporary / name, data)}  {name}\n" for name, data in files.items())
                sync_folder(temporary)
                os.rename(temporary, final)
                sync_folder(final.parent)
                _write(final / f".{COMPLETE}.tmp", [memoryview(sums.encode())])
                os.replace(final / f".{COMPLETE}.tmp", final / COMPLETE)
                sync_folder(final)
            except OSError:
                for folder in (temporary, final):
                    with suppress(OSError):
                        _remove(folder)
                raise

    def newest(self) -> tuple[int, list[str]]:
        """The newest checkpoint whose checksums hold, or 0; and why newer ones are passed over."""
        passed_over: list[str] = []
        for step in reversed(self.layout.checkpoints()):
            fault = _fault(self.layout.checkpoint(step))
            if fault is None:
                return step, passed_over
            passed_over.append(f"checkpoint {self.layout.checkpoint(step)} is passed over: {fault}")
        return 0, passed_over

    def retain(self, keep: int) -> None:
        """Remove all but the newest ``keep`` complete checkpoints."""
        steps = self.layout.checkpoints()
        complete = [step for step, path in steps.items() if (path / COMPLETE).exists()]
        self._remove_steps(steps.keys() - set(complete[-keep:]))

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints of later steps, when the run goes on from this one."""
        self._remove_steps(later for later in self.layout.checkpoints() if later > step)

    def _remove_steps(self, steps: Iterable[int]) -> None:
        for step in sorted(steps):
            path = self.layout.checkpoint(step)
            with disk_errors(path):
                _remove(path)
        for path in (self.layout.root / "checkpoints").glob(".*.tmp"):
            with disk_errors(path):
                _remove(path)


def _write(path: Path, pieces: Iterable[memoryview]) -> str:
    """Write a new file and wait until it is on the disk; its SHA-256."""
    digest = hashlib.sha256()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with ThreadPoolExecutor(1) as beside:  # hashing takes as long as the disk does
            for piece in pieces:
                beside.submit(digest.update, piece)
                while piece:
                    piece = piece[os.write(file, piece) :]
            os.fsync(file)
    finally:
        os.close(file)
    return digest.hexdigest()


def _remove(folder: Path) -> None:
    """Remove a folder of files, if it is there; ``COMPLETE`` first, so that half of it is never whole."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir(), key=lambda path: path.name != COMPLETE):
        os.unlink(path)
    os.rmdir(folder)


def _fault(folder: Path) -> str | None:
    """Why a checkpoint can't be used, or None."""
    if not (folder / COMPLETE).exists():
        return "it was cut short"
    try:
        *lines, _ = (folder / COMPLETE).read_bytes().decode("ascii", errors="replace").split("\n")
        listed = {name: given for given, _, name in (line.partition("  ") for line in lines)}
        there = {path.name for path in folder.iterdir()} - {COMPLETE}
        if there != listed.keys() or STATE not in there:
            return "its files aren't those it lists"
        for name, given in listed.items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != given:
                    return f"{name} is corrupt (its checksum differs)"
    except OSError as error:
        return f"it can't be read ({error.strerror or error})"
    return None
