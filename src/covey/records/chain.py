"""The chain: one link a step, each over the state after that step and over the link before it.

A row of ``chain.jsonl`` has the ``step``, its ``hash``, and the parts the hash covers:

- ``weights`` and ``optimizer``: fingerprints of the tensors after the step
- ``metrics``: the SHA-256 of the step's row of ``metrics.jsonl``
- ``rollouts``: that of the step's rollout file; ``rows`` are the first 8 hex digits of that of each
  of its lines after the header, so that a changed one can be named

The hash covers the hash of the row before too; the first row's predecessor is `origin`. So two runs
with one last hash agree in all of this at every step, and where the last hashes differ, the first
differing row says at which step, and in which part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covey.records.files import encode
from covey.records.migrations import Row
from covey.records.numbers import spell

PARTS = ("weights", "optimizer", "metrics", "rollouts", "rows")
ORIGIN = ("recipe", "algorithm", "model", "data")


def origin(manifest: Mapping[str, Any]) -> str:
    """What the first link hangs on: the manifest's recipe, algorithm, model and data.

    Not the machine, the software or the code: equal runs elsewhere are to have equal chains.
    """
    return _digest({key: manifest.get(key) for key in ORIGIN})


def link(step: int, previous: str, parts: Mapping[str, Any]) -> Row:
    """The row of ``step`` with all of `PARTS`, which follows the row whose hash is ``previous``."""
    covered = {name: parts[name] for name in PARTS}
    return {"step": step, "hash": _digest({"step": step, "previous": previous, **covered}), **covered}


def metrics_part(row: Row) -> str:
    """The part ``metrics`` of a row of ``metrics.jsonl``, as it was written or as it is read."""
    return hashlib.sha256(encode(row)).hexdigest()


def rollout_parts(path: Path) -> dict[str, Any]:
    """The parts ``rollouts`` and ``rows`` of a rollout file."""
    data = path.read_bytes()
    rows = [hashlib.sha256(line).hexdigest()[:8] for line in data.splitlines()[1:]]
    return {"rollouts": hashlib.sha256(data).hexdigest(), "rows": rows}


def _digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of the value's JSON with sorted keys, in hexadecimal."""
    text = json.dumps(spell(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
