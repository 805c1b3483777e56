"""The chain: one link a step, each over the state after that step and over the link before it.

A row of ``chain.jsonl`` is ``{"step", "hash", "weights", "optimizer", "rollouts"}``. ``hash`` covers
the step, the three parts and the hash of the row before; the first row's predecessor is `origin`.
So two runs with one last hash had equal parameters, optimizer states and rollouts at every step,
and where the last hashes differ, the first differing row says at which step, and in which part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from covey.records.migrations import Row
from covey.records.numbers import spell

PARTS = ("weights", "optimizer", "rollouts")
ORIGIN = ("recipe", "algorithm", "model", "data")


def origin(manifest: Mapping[str, Any]) -> str:
    """What the first link hangs on: the manifest's recipe, algorithm, model and data.

    Not the machine, the software or the code: equal runs elsewhere are to have equal chains.
    """
    return _digest({key: manifest.get(key) for key in ORIGIN})


def link(step: int, previous: str, parts: Mapping[str, str]) -> Row:
    """The row of ``step``, which follows the hash ``previous``; ``parts`` are `PARTS` and their hashes."""
    named = {name: parts[name] for name in PARTS}
    return {"step": step, "hash": _digest({"step": step, "previous": previous, **named}), **named}


def _digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of the value's JSON with sorted keys, in hexadecimal."""
    text = json.dumps(spell(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
