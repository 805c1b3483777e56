"""Combined rewards: the sum, the gates, the parts that are kept, and what isn't scored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.rewards.combine import Combine, Part, Role
from covey.rewards.exact import Exact
from covey.rewards.format import Format
from covey.rewards.language import Language
from covey.types import Completion, CoveyError, Episode, Problem, Score, StopReason, Turn


def group(*texts: str, answer: str | None = None) -> list[Episode]:
    problem = Problem("p", (), answer)
    return [
        Episode(problem, i, (Turn((1,), Completion((5,), None, StopReason.END, 0, text)),))
        for i, text in enumerate(texts)
    ]


class Fixed:
    """Gives each episode what it was made with."""

    def __init__(self, *values: float | None) -> None:
        self.values = values

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [Score(v, error="no idea" if v is None else None) for v in self.values]


def combined(*parts: tuple[float | None, float, Role]) -> Score:
    made = [Part(f"r{i}", Fixed(value), weight, role) for i, (value, weight, role) in enumerate(parts)]
    return Combine(made)(group("x"))[0]


def test_parts_are_weighted_summed_and_kept() -> None:
    score = combined((1.0, 1.0, "add"), (0.5, 0.2, "add"), (0.25, -2.0, "add"))
    assert score.value == pytest.approx(0.6)  # 1 + 0.1 - 0.5
    assert score.parts == {"r0": 1.0, "r1": 0.5, "r2": 0.25}


def test_r1_adds_accuracy_format_and_language() -> None:
    # arXiv 2501.12948: accuracy and format with the same weight (eq. 4), language consistency added (eq. 7)
    reward = Combine(
        [
            Part("accuracy", Exact(tag="answer")),
            Part("format", Format()),
            Part("language", Language("en")),
        ]
    )
    right, mixed, bare = reward(
        group(
            "<think>four it is</think><answer>4</answer>",
            "<think>four 四</think><answer>5</answer>",
            "four",
            answer="4",
        )
    )
    assert right.parts == {"accuracy": 1.0, "format": 1.0, "language": 1.0}
    assert (right.value, mixed.value, bare.value) == (3.0, 1.5, 1.0)


def test_a_gate_takes_what_was_earned_and_leaves_what_it_costs() -> None:
    assert combined((1.0, 1.0, "add"), (0.0, 1.0, "gate")).value == 0.0
    assert combined((1.0, 1.0, "add"), (0.5, 1.0, "gate")).value == 0.5
    assert combined((-1.0, 1.0, "add"), (0.0, 1.0, "gate")).value == -1.0
    assert combined((1.0, 2.0, "add"), (7.0, 1.0, "gate")).value == 2.0  # a gate is open or less


def test_an_oracle_counts_for_nothing() -> None:
    score = combined((1.0, 1.0, "add"), (0.0, 1.0, "oracle"))
    assert (score.value, score.parts) == (1.0, {"r0": 1.0, "r1": 0.0})
    assert combined((1.0, 1.0, "add"), (None, 1.0, "oracle")).value == 1.0


@pytest.mark.parametrize("role", ["add", "gate"])
def test_what_a_part_cannot_score_is_not_scored(role: Role) -> None:
    score = combined((1.0, 1.0, "add"), (None, 1.0, role))
    assert score == Score(None, {"r0": 1.0, "r1": None}, "r1: no idea")


def test_an_optional_part_is_left_out() -> None:
    parts = [Part("a", Fixed(1.0, None)), Part("b", Fixed(None, 1.0), optional=True)]
    first, second = Combine(parts)(group("x", "y"))
    assert first == Score(1.0, {"a": 1.0, "b": None})
    assert second == Score(None, {"a": None, "b": 1.0}, "a: no idea")
    none = Combine([Part("b", Fixed(None), optional=True)])(group("x"))[0]
    assert none == Score(None, {"b": None}, "b: no idea")


def test_parts_of_parts_keep_their_names() -> None:
    inner = Combine([Part("x", Fixed(1.0)), Part("y", Fixed(0.5))])
    score = Combine([Part("inner", inner, 2.0)])(group("t"))[0]
    assert score == Score(3.0, {"inner": 1.5, "inner.x": 1.0, "inner.y": 0.5})


def test_a_part_of_the_wrong_length_is_not_scored() -> None:
    scores = Combine([Part("a", Fixed(1.0, 1.0))])(group("x", "y", "z"))
    assert {s.error for s in scores} == {"a: it returned 2 scores for 3 completions"}


def test_what_makes_no_sum_is_refused() -> None:
    with pytest.raises(CoveyError, match="two parts are called 'a'"):
        Combine([Part("a", Fixed(1.0)), Part("a", Fixed(1.0))])
    with pytest.raises(CoveyError, match="needs a part that is added"):
        Combine([Part("a", Format(), role="gate")])
    with pytest.raises(CoveyError, match="weight of part 'a'"):
        Part("a", Fixed(1.0), math.nan)


def test_what_is_left_when_form_is_left_out() -> None:
    reward = Combine([Part("a", Exact()), Part("f", Format(), 0.5), Part("g", Format(), role="gate")])
    assert reward.grading is not None
    assert [part.label for part in reward.grading.parts] == ["a", "g"]
    assert Combine([Part("f", Format())]).grading is None


numbers = st.floats(-2, 2)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5), st.floats(0, 1))
def test_a_gate_never_adds_and_never_forgives(parts: list[tuple[float, float]], gate: float) -> None:
    open_ = combined(*[(v, w, "add") for v, w in parts]).value
    shut = combined(*[(v, w, "add") for v, w in parts], (gate, 1.0, "gate")).value
    assert open_ is not None
    assert shut is not None
    assert shut <= open_ + 1e-12
    assert min(open_, 0.0) == pytest.approx(min(shut, 0.0))
