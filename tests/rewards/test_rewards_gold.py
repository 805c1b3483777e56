"""What a reward can't grade is refused before a run, and by whom it isn't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from covey.build import assemble
from covey.config import parse
from covey.types import CoveyError

CASE = {"input": [1], "output": 1}


def prepared(tmp_path: Path, reward: Any, *rows: dict[str, Any]) -> assemble.Parts:
    """A recipe with that reward on those rows, before anything is loaded."""
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"q{i}", **row}) + "\n" for i, row in enumerate(rows)))
    task = {"name": "jsonl", "path": str(data), "heldout": 0.5}
    return assemble.prepare(parse({"model": {"config": {}}, "task": task, "reward": reward}))


@pytest.mark.parametrize(
    ("reward", "good", "bad", "told"),
    [
        ("number", "83", "eighty", "the gold answer is not a number: 'eighty'"),
        ("choice", "(B)", "83", "the gold answer is none of the letters ABCDEFGHIJ: '83'"),
        ("exact", "yes", "  ", "the problem has no gold answer"),
    ],
)
def test_any_row_that_cant_be_graded_is_named(
    tmp_path: Path, reward: str, good: str, bad: str, told: str
) -> None:
    rows = [{"answer": good}] * 3
    parts = prepared(tmp_path, reward, *rows)
    assert len(parts.train) + len(parts.heldout) == 3
    with pytest.raises(CoveyError, match="problem ") as refused:
        prepared(tmp_path, reward, *rows, {"answer": bad})
    assert told in str(refused.value)
    assert "mend the row, take it out, or choose another reward" in str(refused.value)


def test_a_pattern_without_an_answer_needs_no_gold_one(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"answer": "1"}, {"answer": None}]
    assert prepared(tmp_path, {"name": "regex", "pattern": "a+"}, *rows)
    with pytest.raises(CoveyError, match="no gold answer"):
        prepared(tmp_path, {"name": "regex", "pattern": "(?P<answer>a+)"}, *rows)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({}, "needs the columns test and entry_point, or a list of cases"),
        ({"cases": []}, "needs the columns test and entry_point, or a list of cases"),
        ({"cases": [CASE]}, "without an entry_point, a case's input and output are texts"),
        ({"cases": [{"input": 1, "output": 1}], "entry_point": "f"}, "input is the list of its arguments"),
        ({"cases": [CASE], "entry_point": "1f"}, "entry_point must be the name of a function"),
        ({"cases": [CASE], "entry_point": "f", "prefix": 3}, "prefix must be Python text"),
    ],
)
def test_code_without_tests_is_refused(tmp_path: Path, columns: dict[str, Any], told: str) -> None:
    good = {"answer": "x", "cases": [CASE], "entry_point": "f", "prefix": "x = 1"}
    assert prepared(tmp_path, "code", good, good)
    with pytest.raises(CoveyError, match=told):
        prepared(tmp_path, "code", good, good, {"answer": "x", **columns})


def test_a_part_that_may_be_missing_refuses_no_row(tmp_path: Path) -> None:
    rows = [{"answer": "83"}, {"answer": "eighty"}]
    for spared in ({"optional": True}, {"oracle": True}):
        parts = [{"name": "exact"}, {"name": "number", **spared}]
        assert prepared(tmp_path, {"name": "combine", "parts": parts}, *rows)
    with pytest.raises(CoveyError, match="not a number: 'eighty'"):
        prepared(tmp_path, {"name": "combine", "parts": ["exact", "number"]}, *rows)
