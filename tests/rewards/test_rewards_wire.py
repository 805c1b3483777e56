"""What crosses to a grader's process comes over whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.rewards import wire
from covey.types import Completion, Episode, Fault, Problem, Score, StopReason, Turn

ids = st.lists(st.integers(0, 99), max_size=4).map(tuple)
texts = st.text(st.characters(exclude_categories=()))  # lone surrogates, too
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(texts, inside, max_size=3),
    max_leaves=6,
)
completions = st.builds(Completion, ids, st.none(), st.sampled_from(StopReason), st.integers(0, 9), texts)
problems = st.builds(
    Problem,
    texts,
    st.lists(st.fixed_dictionaries({"role": texts, "content": texts}), max_size=2).map(tuple),
    st.none() | texts,
    st.dictionaries(texts, values, max_size=3),
)


@given(problems, st.lists(st.lists(st.builds(Turn, ids, completions), max_size=3), min_size=1, max_size=3))
def test_episodes_come_back_as_they_were(problem: Problem, turns: list[list[Turn]]) -> None:
    episodes = [Episode(problem, sample, tuple(several)) for sample, several in enumerate(turns)]
    line = json.dumps(wire.episodes_to_json(episodes))
    assert "\n" not in line
    assert wire.episodes_from_json(json.loads(line)) == episodes


@given(st.none() | numbers, st.dictionaries(texts, st.none() | numbers, max_size=3), st.none() | texts)
def test_scores_come_back_to_the_bit(value: Any, parts: Any, error: Any) -> None:
    score = Score(value, parts, error, Fault("raised", "Traceback"))
    again = wire.score_from_json(json.loads(json.dumps(wire.score_to_json(score))))
    assert again == score
    assert again.fault == score.fault


@pytest.mark.parametrize(
    "change",
    [
        {"value": "1"},
        {"value": True},
        {"value": float("nan")},
        {"parts": {"a": "x"}},
        {"error": 3},
        {"parts": 1},
    ],
)
def test_what_is_no_score_is_refused(change: dict[str, Any]) -> None:
    row = wire.score_to_json(Score(1.0)) | change
    with pytest.raises((TypeError, ValueError)):
        wire.score_from_json(row)


def test_what_json_can_t_say_is_its_text() -> None:
    assert wire.plain({"a": (1, b"x"), 2: {3}}) == {"a": [1, "b'x'"], "2": "{3}"}
