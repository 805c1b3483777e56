"""The two kinds of file in a run directory: a JSON document, and JSON lines that only grow.

Both say what they are: a document through its keys ``schema`` and ``file``, a JSONL file through
its first line. The text is ASCII, so that a completion shown raw can't steer a terminal.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from covey.records.atomic import disk_errors, write_atomic
from covey.records.migrations import Row, current_schema, upgrade
from covey.records.numbers import spell
from covey.types import CoveyError


def encode(row: Any) -> bytes:
    """One line of JSON. A value that JSON doesn't know is a TypeError."""
    try:
        text = json.dumps(row, allow_nan=False, separators=(",", ":"))
    except ValueError:
        # Rare, and looking for it in every token's log-prob would cost more than writing does.
        text = json.dumps(spell(row), allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def header(kind: str) -> Row:
    return {"schema": current_schema(), "file": kind}


def document(kind: str, content: Row) -> bytes:
    """The text of a JSON document."""
    text = json.dumps(spell(header(kind) | content | header(kind)), allow_nan=False, indent=1)
    return text.encode("ascii") + b"\n"


def write_document(path: Path, kind: str, content: Row) -> None:
    """Write a JSON document atomically. ``schema`` and ``file`` are not the content's to set."""
    write_atomic(path, document(kind, content))


def read_document(path: Path, kind: str) -> Row:
    """The content of a JSON document, without ``schema`` and ``file``."""
    row = _parse(path, 1, _read(path))
    content = upgrade(path, kind, _schema(path, kind, row), row)
    return {key: value for key, value in content.items() if key not in ("schema", "file")}


def write_lines(path: Path, kind: str, rows: Iterable[Row]) -> None:
    """Write a whole JSONL file atomically."""
    write_atomic(path, b"".join(encode(row) for row in (header(kind), *rows)))


def read_lines(path: Path, kind: str, warnings: list[str]) -> list[tuple[int, Row]]:
    """The rows of a JSONL file with their line numbers; none when there is no such file yet.

    A last line cut short by a kill is dropped and reported in ``warnings``. A broken line before
    it is a :class:`CoveyError`, as is a file of another kind or of a newer schema.
    """
    if not path.exists():
        return []
    *lines, rest = _read(path).split(b"\n")
    torn = bool(rest)
    rows: list[tuple[int, Row]] = []
    for line, text in enumerate(lines, start=1):
        try:
            rows.append((line, _parse(path, line, text)))
        except CoveyError:
            if torn or line < len(lines):
                raise
            torn = True
    if torn:
        message = f"{path}: the last line is cut short and was left out"
        if message not in warnings:
            warnings.append(message)
    if not rows:
        return []
    schema = _schema(path, kind, rows[0][1])
    return [(line, upgrade(path, kind, schema, row)) for line, row in rows[1:]]


class Appender:
    """A JSONL file that only grows, one ``write`` a line: a kill can tear the last line at most."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        with disk_errors(path):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        if os.fstat(self._file).st_size == 0:
            self.append(header(kind))

    def append(self, row: Row) -> None:
        """Write one line. When the disk refuses, the file is left as it was."""
        data = encode(row)
        with disk_errors(self.path):
            end = os.fstat(self._file).st_size
            try:
                while data:
                    data = data[os.write(self._file, data) :]
            except BaseException:
                # Half a line in the middle of a file would make all that follows unreadable.
                with suppress(OSError):
                    os.ftruncate(self._file, end)
                raise

    def sync(self) -> None:
        """Wait until every line is on the disk."""
        with disk_errors(self.path):
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CoveyError(f"can't read {path}: {error.strerror or error}") from error


def _parse(path: Path, line: int, text: bytes) -> Row:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            line += error.lineno - 1
        raise CoveyError(f"{path}:{line}: broken JSON; restore the file from a copy") from error
    if not isinstance(row, dict):
        raise CoveyError(f"{path}:{line}: a JSON object was expected; restore the file from a copy")
    return cast(Row, row)


def _schema(path: Path, kind: str, row: Row) -> int:
    schema = row.get("schema")
    if row.get("file") != kind or not isinstance(schema, int) or schema < 1:
        raise CoveyError(f'{path}:1: not a Covey {kind} file: {{"schema": …, "file": "{kind}"}} is missing')
    return schema
