"""Problems from a JSON Lines file: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from covey.protocols import Split
from covey.tasks.rows import Row, by_share, by_source
from covey.tasks.shapes import AUTO, columns_of
from covey.types import CoveyError, Problem


class Jsonl:
    """A problem a line of ``path``; `Columns.read` says how a row is read, `columns_of` which
    column is what unless it is said.

    Held out is a share of the prompts, a tenth unless ``heldout`` says otherwise, or all of the file
    ``heldout_path``. Blank lines are skipped.

    Raises:
        CoveyError: a file is missing, empty or no JSON Lines; a row lacks its columns; no row has an
            answer; a prompt is in both files. The message names the file and the line.
    """

    def __init__(
        self,
        path: str,
        prompt: str = AUTO,
        answer: str | None = AUTO,
        heldout: float | None = None,
        heldout_path: str | None = None,
        system: str | None = None,
        final: str = AUTO,
    ) -> None:
        columns, lines, self.notes = columns_of(_lines(path), prompt, answer, final, system)
        problems = columns.read(lines, path)
        if heldout_path is None:
            self._problems = by_share(problems, heldout, path)
        else:
            others = columns.read(_lines(heldout_path), heldout_path)
            self._problems = by_source(problems, others, heldout, path, heldout_path)

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split."""
        return self._problems[split]


def _lines(path: str) -> Iterator[Row]:
    try:
        with Path(path).expanduser().open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _row(line, f"{path}, line {number}")
    except OSError as error:
        raise CoveyError(f"{path}: {error.strerror or error}") from error


def _row(line: bytes, where: str) -> Row:
    try:
        data = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
    except RecursionError as error:
        raise CoveyError(f"{where}: nested too deeply") from error
    except ValueError as error:  # broken JSON, broken UTF-8, a number with thousands of digits
        raise CoveyError(f"{where}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise CoveyError(f"{where}: a row must be a JSON object, not {type(data).__name__}")
    return Row(where, data)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")
