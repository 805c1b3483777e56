"""Documents and JSONL files: whole or absent, torn at the end at most, loud when broken elsewhere."""

from __future__ import annotations

import json
import math
import os
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from covey.records import migrations, write_atomic
from covey.records.files import Appender, encode, read_document, read_lines, write_document, write_lines
from covey.types import CoveyError

ROWS = [{"step": 0, "reward": 0.25}, {"step": 1, "reward": 0.5}, {"step": 2, "reward": 0.75}]


@contextmanager
def file_size_limit(size: int) -> Generator[None]:
    """A disk that is full once a file has ``size`` bytes: the write that crosses it is cut short."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def plain_rows(path: Path, warnings: list[str] | None = None) -> list[dict[str, object]]:
    return [row for _, row in read_lines(path, "metrics", [] if warnings is None else warnings)]


def test_a_file_says_what_it_is_in_its_first_line(tmp_path: Path) -> None:
    write_lines(tmp_path / "m", "metrics", ROWS)

    assert (tmp_path / "m").read_text().splitlines()[0] == '{"schema":1,"file":"metrics"}'
    assert plain_rows(tmp_path / "m") == ROWS


def test_lines_appended_equal_lines_written_at_once(tmp_path: Path) -> None:
    write_lines(tmp_path / "whole", "metrics", ROWS)
    file = Appender(tmp_path / "grown", "metrics")
    for row in ROWS:
        file.append(row)
    file.close()

    assert (tmp_path / "grown").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_kill_at_any_byte_loses_at_most_the_line_being_written(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_lines(path, "metrics", ROWS)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        warnings: list[str] = []

        rows = plain_rows(path, warnings)

        assert rows == ROWS[: max(whole[:length].count(b"\n") - 1, 0)]
        assert bool(warnings) == (not whole[:length].endswith(b"\n") and length > 0)


def test_a_last_line_of_zero_bytes_is_left_out(tmp_path: Path) -> None:
    """Some file systems leave that after a power cut."""
    write_lines(tmp_path / "m", "metrics", ROWS)
    with (tmp_path / "m").open("ab") as file:
        file.write(b"\0" * 8 + b"\n")
    warnings: list[str] = []

    assert plain_rows(tmp_path / "m", warnings) == ROWS
    assert warnings == [f"{tmp_path / 'm'}: the last line is cut short and was left out"]


@pytest.mark.parametrize("after", [b'{"step":1}\n', b'{"st'])
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, after: bytes) -> None:
    path = tmp_path / "m"
    path.write_bytes(b'{"schema":1,"file":"metrics"}\n{"step":0\n' + after)

    with pytest.raises(CoveyError, match=r"m:2: broken JSON; restore the file from a copy"):
        plain_rows(path)


@pytest.mark.parametrize(
    "first", ['{"schema":1,"file":"timings"}', '{"file":"metrics"}', '{"step":0}', "[1]"]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, first: str) -> None:
    (tmp_path / "m").write_text(first + '\n{"step":0}\n')

    with pytest.raises(CoveyError, match=r"m:1: "):
        plain_rows(tmp_path / "m")


def test_a_newer_schema_is_refused_with_both_versions(tmp_path: Path) -> None:
    (tmp_path / "m").write_text('{"schema":2,"file":"metrics"}\n{"step":0}\n')
    (tmp_path / "d").write_text('{"schema":2,"file":"manifest"}')

    for read in (lambda: plain_rows(tmp_path / "m"), lambda: read_document(tmp_path / "d", "manifest")):
        with pytest.raises(CoveyError, match=r"has schema 2; .* reads up to 1\. Upgrade covey"):
            read()


def test_older_rows_pass_through_every_later_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "one", "metrics", [{"step": 0, "kl": 0.5}])
    write_document(tmp_path / "doc", "manifest", {"kl": 0.5})

    def rename(kind: str, row: migrations.Row) -> migrations.Row:
        return {"mismatch_kl" if kind == "metrics" and k == "kl" else k: v for k, v in row.items()}

    def halve(kind: str, row: migrations.Row) -> migrations.Row:
        return row | {"mismatch_kl": row["mismatch_kl"] / 2} if kind == "metrics" else row

    monkeypatch.setattr(migrations, "MIGRATIONS", [rename])
    write_lines(tmp_path / "two", "metrics", [{"step": 1, "mismatch_kl": 0.5}])
    monkeypatch.setattr(migrations, "MIGRATIONS", [rename, halve])
    write_lines(tmp_path / "three", "metrics", [{"step": 2, "mismatch_kl": 0.5}])

    assert plain_rows(tmp_path / "one") == [{"step": 0, "mismatch_kl": 0.25}]
    assert plain_rows(tmp_path / "two") == [{"step": 1, "mismatch_kl": 0.25}]
    assert plain_rows(tmp_path / "three") == [{"step": 2, "mismatch_kl": 0.5}]
    assert read_document(tmp_path / "doc", "manifest") == {"kl": 0.5}


def test_no_file_is_ever_invalid_json(tmp_path: Path) -> None:
    row = {"loss": math.nan, "ratio": [math.inf, -math.inf], "text": "\x1b[31m\u202eé"}

    assert encode(row) == (b'{"loss":"nan","ratio":["inf","-inf"],"text":"\\u001b[31m\\u202e\\u00e9"}\n')
    write_document(tmp_path / "d", "summary", row)
    assert json.loads((tmp_path / "d").read_text())["loss"] == "nan"


def test_a_document_keeps_its_envelope_to_itself(tmp_path: Path) -> None:
    write_document(tmp_path / "d", "summary", {"schema": 9, "file": "x", "after": 0.5})

    assert json.loads((tmp_path / "d").read_text()) == {"schema": 1, "file": "summary", "after": 0.5}
    assert read_document(tmp_path / "d", "summary") == {"after": 0.5}


def test_a_broken_document_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "d").write_text('{"schema": 1,\n "file": "summary",\n oops}')

    with pytest.raises(CoveyError, match=r"d:3: broken JSON"):
        read_document(tmp_path / "d", "summary")


def test_a_full_disk_leaves_every_line_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "m"
    file = Appender(path, "metrics")
    file.append(ROWS[0])
    before = path.read_bytes()

    with (
        file_size_limit(len(before) + 5),
        pytest.raises(CoveyError, match=r"can't write .*m: .* Nothing recorded so far is lost"),
    ):
        file.append(ROWS[1])
    assert path.read_bytes() == before  # five bytes had fitted

    file.append(ROWS[2])
    file.close()
    assert plain_rows(path) == [ROWS[0], ROWS[2]]


def test_an_atomic_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    write_atomic(tmp_path / "d", b"old")

    with file_size_limit(5), pytest.raises(CoveyError, match="can't write"):
        write_atomic(tmp_path / "d", b"new and long")

    assert (tmp_path / "d").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["d"]


def test_an_atomic_write_that_is_killed_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "d", b"old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "d", b"new")

    assert (tmp_path / "d").read_bytes() == b"old"
