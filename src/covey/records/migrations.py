"""How a record written by an older Covey is read by this one.

``MIGRATIONS[n - 1]`` turns a row of schema ``n`` into one of schema ``n + 1``. The list only ever
grows: what was written once stays readable. A migration is given the kind of file (``metrics``,
``rollout``, …) and one row, and returns the row to be read in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from covey.types import CoveyError

Row: TypeAlias = dict[str, Any]
Migration: TypeAlias = Callable[[str, Row], Row]

MIGRATIONS: list[Migration] = []


def current_schema() -> int:
    """The schema this version writes, and the newest it reads."""
    return 1 + len(MIGRATIONS)


def upgrade(path: Path, kind: str, schema: int, row: Row) -> Row:
    """A row of ``path`` as the current schema has it.

    Raises :class:`CoveyError` when the file is newer than this version of Covey.
    """
    if schema > current_schema():
        raise CoveyError(
            f"{path} has schema {schema}; this version of Covey reads up to {current_schema()}. "
            "Upgrade covey to read it"
        )
    for migrate in MIGRATIONS[schema - 1 :]:
        row = migrate(kind, row)
    return row
