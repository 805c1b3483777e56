"""``covey conformance FILE``: golden vectors, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from covey.audit.conformance import Row


def conformance(file: Path, *, dtype: Literal["float64", "float32"] = "float64") -> int:
    """Evaluate every row of a file of golden vectors; exit code 1 when any differs.

    Parameters
    ----------
    file
        A JSON file in the schema of tests/algo/fixtures/grpo_fixtures.json.
    dtype
        What to compute in; rows must agree to 1e-12 in float64 and to 1e-5 in float32, relative.
    """
    from covey.audit.conformance import TOLERANCE, check_file

    kind = next(kind for kind in TOLERANCE if str(kind) == f"torch.{dtype}")
    rows = check_file(file, kind)
    for row in rows:
        print(f"{'ok' if row.ok else 'FAIL':5} {row.name}{_error(row)}")
    different = sum(not row.ok for row in rows)
    print(f"{len(rows) - different} of {len(rows)} rows agree to {TOLERANCE[kind]:g} in {dtype}")
    return 1 if different or not rows else 0


def _error(row: Row) -> str:
    if row.ok:
        return f"  {row.error:.1e}"
    if row.problem:
        return f"  {row.problem}"
    return f"  expected {_short(row.expected)}, got {_short(row.got)}, off by {row.error:.1e}"


def _short(value: object, most: int = 60) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
