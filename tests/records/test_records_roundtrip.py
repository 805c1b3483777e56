"""What is written is what is read: every noun comes back equal."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from covey.records import RunReader, RunWriter
from covey.types import (
    Answer,
    Completion,
    Episode,
    Evaluation,
    Group,
    Problem,
    Sample,
    Score,
    StopReason,
    Turn,
    Update,
)

logps = st.one_of(st.floats(max_value=0.0, width=32, allow_nan=False), st.floats(allow_nan=False))
finite = st.floats(allow_nan=False, allow_infinity=False)
ids = st.lists(st.integers(0, 2**31), max_size=4).map(tuple)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
scores = st.builds(
    Score,
    st.none() | finite,
    st.dictionaries(st.text(max_size=4), st.none() | st.floats(allow_nan=False), max_size=2),
    st.none() | st.text(max_size=5),
)
messages = st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=8)})
problems = st.builds(
    Problem,
    id=st.text(max_size=5),
    messages=st.lists(messages, max_size=2).map(tuple),
    answer=st.none() | st.text(max_size=3),
    columns=st.dictionaries(st.text(max_size=4), json_values, max_size=2),
)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    tokens = draw(ids)
    values = st.lists(logps, min_size=len(tokens), max_size=len(tokens)).map(tuple)
    stop, version = draw(st.sampled_from(StopReason)), draw(st.integers(0, 9))
    several = st.lists(st.integers(0, 2**31), max_size=4, unique=True).map(sorted).map(tuple)
    kept = draw(st.none() | st.lists(several, min_size=len(tokens), max_size=len(tokens)).map(tuple))
    return Completion(tokens, draw(st.none() | values), stop, version, draw(st.text(max_size=8)), kept)


@st.composite
def groups_of(draw: st.DrawFn) -> Group:
    problem = draw(problems)
    shared = draw(ids)
    context = st.one_of(st.just(shared), ids)
    turns = st.lists(st.builds(Turn, context, completions()), max_size=2).map(tuple)
    size = draw(st.integers(0, 3))
    episodes = tuple(Episode(problem, sample, draw(turns)) for sample in range(size))
    graded = draw(st.lists(scores, min_size=size, max_size=size).map(tuple))
    return Group(problem, episodes, graded, draw(st.none() | st.just("zero variance")))


@st.composite
def samples_of(draw: st.DrawFn, groups: list[Group]) -> tuple[Sample, ...]:
    """Samples of the groups' episodes, some trained with other log-probs than were sampled."""
    samples: list[Sample] = []
    for index, group in enumerate(groups):
        for episode in group.episodes:
            column = st.lists(logps, min_size=episode.chosen, max_size=episode.chosen).map(tuple)
            own = episode.sampler_logp if draw(st.booleans()) else None
            other = draw(column) if own is None else own
            samples.append(Sample(index, episode.sample, draw(finite), draw(column), draw(column), other))
    return tuple(samples)


answers = st.builds(
    Answer,
    problem_id=st.text(max_size=4),
    scores=st.lists(scores, max_size=2).map(tuple),
    texts=st.lists(st.text(max_size=6), max_size=2).map(tuple),
    token_ids=st.lists(ids, max_size=2).map(tuple),
    stops=st.lists(st.sampled_from(StopReason), max_size=2).map(tuple),
)
answer_lists = st.lists(answers, max_size=2).map(tuple)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_was_sampled_and_trained_comes_back_equal(data: st.DataObject) -> None:
    groups = data.draw(st.lists(groups_of(), max_size=2))
    samples = data.draw(samples_of(groups))
    with tempfile.TemporaryDirectory() as folder, RunWriter.create(folder) as run:
        run.manifest({})
        run.groups(3, groups)
        run.update(3, Update(bool(samples), {}, samples))
        reader = RunReader(folder)

        assert reader.groups(3) == groups
        assert reader.samples(3) == list(samples)
        assert reader.steps() == [3]
        assert reader.warnings == []


@settings(max_examples=40, deadline=None)
@given(st.builds(Evaluation, st.integers(0, 999_999), answer_lists, answer_lists))
def test_an_evaluation_comes_back_equal(evaluation: Evaluation) -> None:
    with tempfile.TemporaryDirectory() as folder, RunWriter.create(folder) as run:
        run.manifest({})
        run.evaluation(evaluation)

        assert RunReader(folder).evaluations() == [evaluation]


def test_metrics_come_back_with_what_json_cannot_say(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path) as run:
        run.manifest({})
        run.update(0, Update(False, {"reward": 0.1, "tokens": 12, "ratio": math.inf, "kl": math.nan}))
    (row,) = RunReader(tmp_path).metrics()

    assert math.isnan(row.pop("kl"))
    assert row == {"step": 0, "trained": False, "reward": 0.1, "tokens": 12, "ratio": math.inf}


def test_documents_events_and_timings_come_back(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path) as run:
        run.manifest({"recipe": {"seed": 7}, "threads": 2})
        run.event("grader failed", problem="12+34", error="boom")
        run.timing(0, {"generate": 1.5, "train": 0.5})
        run.summary({"after": 0.75})
    reader = RunReader(tmp_path)

    assert reader.manifest() == {"recipe": {"seed": 7}, "threads": 2}
    assert reader.summary() == {"after": 0.75}
    assert reader.timings() == [{"step": 0, "generate": 1.5, "train": 0.5}]
    (event,) = reader.events()
    assert event.pop("time").endswith("+00:00")
    assert event == {"attempt": 1, "kind": "grader failed", "problem": "12+34", "error": "boom"}


def test_columns_that_json_cannot_say_are_kept_as_text(tmp_path: Path) -> None:
    columns: Any = {1: (b"x", {2.5: Path("a")}), "n": math.nan}
    odd = Problem("odd", (), columns=columns)
    with RunWriter.create(tmp_path) as run:
        run.manifest({})
        run.groups(0, [Group(odd, (), ())])

    (read,) = RunReader(tmp_path).groups(0)
    assert read.problem.columns == {"1": ["b'x'", {"2.5": "a"}], "n": "nan"}
