"""The chain: each hash covers its step's parts and all that came before."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.records.chain import PARTS, link, metrics_part, origin, rollout_parts
from covey.records.files import encode

MANIFEST = {
    "recipe": {"seed": 1, "reward": "nümber"},
    "algorithm": {"clip": 0.2},
    "model": {"sha256": None},
    "data": {"train": {"sha256": "ab"}},
    "environment": {"cpu": "Z80"},
}
GIVEN: dict[str, Any] = {
    "weights": "w",
    "optimizer": "o",
    "metrics": "m",
    "rollouts": "r",
    "rows": ["1", "2"],
}


def test_the_hash_is_the_sha256_of_what_it_covers() -> None:
    row = link(3, "before", GIVEN)
    text = (
        '{"metrics":"m","optimizer":"o","previous":"before","rollouts":"r","rows":["1","2"],"step":3,'
        '"weights":"w"}'
    )
    assert row == {"step": 3, "hash": hashlib.sha256(text.encode()).hexdigest(), **GIVEN}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_covered(part: str) -> None:
    other = GIVEN | {part: ["3"] if part == "rows" else "other"}
    assert link(0, "p", other)["hash"] != link(0, "p", GIVEN)["hash"]


def test_so_are_the_step_and_what_came_before() -> None:
    assert len({link(step, previous, GIVEN)["hash"] for step in (0, 1) for previous in ("p", "q")}) == 4


def test_the_origin_is_what_decides_the_run_and_not_where_it_ran() -> None:
    assert origin(MANIFEST | {"environment": {"cpu": "6502"}}) == origin(MANIFEST)
    for key in ("recipe", "algorithm", "model", "data"):
        assert origin(MANIFEST | {key: {}}) != origin(MANIFEST)


def test_the_origin_is_the_same_when_it_was_read_from_a_file() -> None:
    odd = MANIFEST | {"recipe": {"low": float("inf"), "names": ("a", "b")}}
    assert origin(json.loads(encode(odd))) == origin(odd)


@given(loss=st.floats())
def test_a_metrics_row_has_the_same_hash_written_and_read(loss: float) -> None:
    row = {"step": 1, "trained": True, "loss": loss}
    line = encode(row)
    assert metrics_part(row) == metrics_part(json.loads(line)) == hashlib.sha256(line).hexdigest()


def test_the_parts_of_a_rollout_file_name_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "000000.jsonl"
    path.write_bytes(b'{"schema":1}\n{"a":1}\n{"b":2}\n')
    parts = rollout_parts(path)

    assert parts["rollouts"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert parts["rows"] == [hashlib.sha256(row).hexdigest()[:8] for row in (b'{"a":1}', b'{"b":2}')]
