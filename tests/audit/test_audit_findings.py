"""What counts as a difference, and how it is said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from covey.audit.findings import Check, Report, first_difference
from covey.audit.made_of import unequal


@pytest.mark.parametrize(
    ("recorded", "computed", "tolerance", "same"),
    [
        (1.0, 1.0 + 1e-9, 0.0, False),
        (1.0, 1.0 + 1e-9, 1e-8, True),
        (1e-12, 2e-12, 1e-8, False),  # relative: small numbers aren't all alike
        (math.nan, math.nan, 0.0, True),
        (math.nan, 1.0, 1.0, False),
        (math.inf, math.inf, 0.0, True),
        (1, 1.0, 0.0, True),
        (True, 1, 0.0, False),
        (None, 0, 0.0, False),
        ("1", 1, 0.0, False),
        ((1, 2), (1, 2), 0.0, True),
        ((1, 2), (1, 3), 0.0, False),
    ],
)
def test_values_are_the_same_or_not(recorded: Any, computed: Any, tolerance: float, same: bool) -> None:
    check = Check("check", "values")
    check.same({"step": 1}, "value", recorded, computed, tolerance)
    assert (not check.differences) is same


@pytest.mark.parametrize(
    ("recorded", "computed", "found"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ("a[1].b", 2, 3)),
        ({"a": 1}, {"a": 1, "b": 2}, ("b", "absent", 2)),
        ({"a": 1, "b": 2}, {"a": 1}, ("b", 2, "absent")),
        ({"a": [1]}, {"a": [1, 2]}, ("length of a", 1, 2)),
        ({"a": {}}, {"a": []}, ("a", {}, [])),
        ({"a": math.nan, "b": [None]}, {"b": [None], "a": math.nan}, None),
    ],
)
def test_the_first_leaf_that_differs_is_named(recorded: Any, computed: Any, found: Any) -> None:
    assert first_difference(recorded, computed) == found


def test_a_check_shows_the_first_difference_and_counts_the_others() -> None:
    check = Check("rewards", "completions graded again", count=3)
    assert (check.status, check.detail) == ("ok", "3 completions graded again")
    check.same({"step": 3, "group": 4, "sample": 2}, "reward", 1.0, 0.0)
    check.fault({"step": 5}, "it is missing")
    assert check.status == "FAIL"
    assert check.detail == "step 3, group 4, sample 2: reward is 1.0, recomputed 0.0 (and 1 more)"


def test_a_long_value_is_cut_and_control_characters_are_spelled_out() -> None:
    check = Check("texts", "texts")
    check.same({"step": 0}, "text", "\x1b[2J" + "x" * 1000, "y")
    assert len(check.detail) < 200
    assert "\x1b" not in check.detail


def test_a_report_is_json_whatever_was_found() -> None:
    check = Check("check", "values")
    check.same({"step": 0}, "value", math.nan, {1: (math.inf, Path("x"))})
    said = json.loads(json.dumps(Report(Path("run"), [check], [], {"a": "b"}).as_json(), allow_nan=False))
    assert said["ok"] is False
    assert said["checks"][0]["differences"][0]["recorded"] == "nan"


def test_manifests_differ_by_their_leaves() -> None:
    one = {"recipe": {"a": 1, "b": {"c": [1, 2]}}, "code": {"version": "1"}}
    other = {"recipe": {"a": 1, "b": {"c": [1, 3]}, "d": None}, "code": None}
    found = unequal(one, other, ["recipe", "code"])
    assert [(f.key, f.one, f.other) for f in found] == [
        ("recipe.b.c", [1, 2], [1, 3]),
        ("code.version", "1", None),
    ]
