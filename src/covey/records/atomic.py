"""Writes that either happened or didn't, and what the user is told when the disk says no."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from covey.types import CoveyError


@contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turn an operating system's refusal to write ``path`` into a :class:`CoveyError`."""
    try:
        yield
    except OSError as error:
        raise CoveyError(
            f"can't write {path}: {error.strerror or error}. Nothing recorded so far is lost; "
            "make the disk writable (or free some space) and go on with `covey resume`"
        ) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` as the whole of ``path``: after a crash the file is the old one or the new one.

    The bytes reach the disk (fsync) before the name does, and the name before this returns.
    Raises :class:`CoveyError` when the disk is full or read-only.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: new, renamed and removed files survive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
