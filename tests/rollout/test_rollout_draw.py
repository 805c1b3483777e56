"""What is drawn next, given what was seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.engines.scripted import ScriptedChat, ScriptedEngine
from covey.rollout import DRAWS, Mixed, Order, SynchronousSource, Uniform, redraw
from covey.rollout.draw import Climb, Curriculum, Retire
from covey.types import CoveyError, Episode, Group, Problem, Sampling, Score

PROBLEM = Problem("p", ({"role": "user", "content": "?"},))


def group(*values: float | None) -> Group:
    same = len({value for value in values if value is not None}) < 2
    return Group(PROBLEM, (), tuple(Score(value) for value in values), "zero variance" if same else None)


def steps(draw: Uniform | Mixed, rates: Sequence[float], number: int, count: int) -> list[list[int]]:
    """So many steps of ``number`` problems, whose groups have the pass rates given by index."""
    drawn = []
    for step in range(count):
        drawn.append(draw.take(step, number))
        draw.saw(step, drawn[-1], [group(rates[index]) for index in drawn[-1]])
    return drawn


def test_uniform_is_the_order_of_old() -> None:
    draw = Uniform(10, seed=0)
    assert draw.take(0, 12) == Order(10, seed=0).take(12)
    assert draw.state() == {"drawn": 12}


def test_a_solved_problem_retires_and_the_others_go_on() -> None:
    draw = Retire(4, seed=0)
    drawn = steps(draw, [1.0, 0.5, 1.0, 0.0], 4, 3)
    assert sorted(drawn[0]) == [0, 1, 2, 3]
    # 0 and 2 have retired: two are left, each drawn twice a step
    assert sorted(drawn[1]) == sorted(drawn[2]) == [1, 1, 3, 3]


def test_it_takes_so_many_visits_and_so_high_a_mean() -> None:
    draw = Retire(2, seed=0, solved=0.75, visits=2)
    for step, rates in enumerate([(1.0, 0.0), (0.5, 1.0)]):
        drawn = draw.take(step, 2)
        draw.saw(step, drawn, [group(rates[index]) for index in drawn])
    # means of the last two: (1 + 0.5) / 2 = 0.75 is enough, (0 + 1) / 2 = 0.5 is not
    assert set(draw.retired) == {0}
    assert draw.take(2, 3) == [1, 1, 1]


def test_what_wasn_t_scored_is_no_visit() -> None:
    draw = Retire(1, seed=0)
    draw.saw(0, [0], [group(None, None)])
    assert draw.retired == {}
    draw.saw(1, [0], [group(1.0, None)])  # of what was scored, all
    assert draw.retired == {0: 1}


def test_the_retired_come_back() -> None:
    draw = Retire(3, seed=0, return_after=2)
    draw.saw(0, [0], [group(1.0)])
    assert 0 not in draw.take(1, 4)
    assert 0 not in draw.take(2, 4)
    assert 0 in draw.take(3, 3)  # 3 - 0 > 2
    assert draw.rates.last == {}


def test_when_all_have_retired_they_are_drawn_again() -> None:
    draw = Retire(3, seed=0)
    draw.saw(0, [0, 1, 2], [group(1.0)] * 3)
    assert sorted(draw.take(1, 3)) == [0, 1, 2]
    draw.saw(1, [1], [group(0.5)])  # it was forgotten: it is back for good
    assert draw.take(2, 2) == [1, 1]


def test_the_curriculum_prefers_the_informative_middle() -> None:
    rates = [0.0, 0.5, 1.0, 0.25]
    draw = Curriculum(4, seed=0, floor=0.1)
    steps(draw, rates, 4, 1)
    # 0.1 + 0.9 · 4 p (1 - p): p = 0.25 gives 0.1 + 0.9 · 0.75 = 0.775
    assert draw.weights().tolist() == pytest.approx([0.1, 1.0, 0.1, 0.775])
    counted = Counter(index for [index] in steps(draw, rates, 1, 4000))
    total = 0.1 + 1.0 + 0.1 + 0.775
    for index, weight in enumerate([0.1, 1.0, 0.1, 0.775]):
        # four standard deviations of a binomial share of 4,000 draws
        share = weight / total
        assert abs(counted[index] / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_a_step_draws_nothing_twice_while_there_is_more() -> None:
    draw = Curriculum(10, seed=3)
    assert len({*draw.take(0, 4), *draw.take(0, 4), *draw.take(0, 2)}) == 10
    assert sorted(draw.take(1, 20)) == sorted([*range(10)] * 2)


def test_a_level_is_climbed_when_it_is_passed_and_left_when_it_is_too_hard() -> None:
    draw = Climb(6, seed=0, levels=3, up=0.7, down=0.1, visits=4)
    rates = [0.5, 1.0, 1.0, 1.0, 0.0, 0.2]
    drawn = steps(draw, rates, 2, 2)
    assert [sorted(two) for two in drawn] == [[0, 1], [0, 1]]  # (0.5 + 1 + 0.5 + 1) / 4 = 0.75: passed
    assert [sorted(two) for two in steps(draw, rates, 2, 2)] == [[2, 3], [2, 3]]  # passed, too
    # (0 + 0.2 + 0 + 0.2) / 4 = 0.1: too hard, and then the one before is passed again
    assert [sorted(two) for two in steps(draw, rates, 2, 4)] == [[4, 5], [4, 5], [2, 3], [2, 3]]
    assert (draw.level, draw.last) == (2, [])


def test_at_either_end_there_is_no_further_level() -> None:
    low, high = (Climb(5, seed=0, levels=2, visits=1) for _ in range(2))
    assert {index for [index] in steps(low, [0.0] * 5, 1, 9)} == {0, 1}
    first, *rest = [index for [index] in steps(high, [1.0] * 5, 1, 9)]
    assert first in {0, 1}
    assert set(rest) == {2, 3, 4}


def test_what_wasn_t_scored_moves_no_level() -> None:
    draw = Climb(4, seed=0, levels=2, visits=1)
    draw.saw(0, draw.take(0, 2), [group(None, None)] * 2)
    assert (draw.level, draw.last) == (0, [])


@given(
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20),
)
def test_a_mixture_keeps_its_weights_to_within_one_problem_a_part(
    weights: list[float], sizes: list[int]
) -> None:
    counts = [3 + part for part in range(len(weights))]
    mixed = Mixed([Uniform(count, 0) for count in counts], counts, weights)
    taken: Counter[int] = Counter()
    parts = [part for part, count in enumerate(counts) for _ in range(count)]
    for step, size in enumerate(sizes):
        taken.update(parts[index] for index in mixed.take(step, size))
        for part, weight in enumerate(weights):
            wanted = taken.total() * weight / sum(weights)
            assert wanted - len(weights) <= taken[part] <= wanted + 1 + 1e-9


def test_a_part_of_a_mixture_is_told_of_its_own() -> None:
    mixed = Mixed([Retire(2, 0), Retire(2, 0)], [2, 2], [1, 1])
    drawn = steps(mixed, [1.0, 0.0, 0.0, 1.0], 4, 2)
    assert sorted(drawn[0]) == [0, 1, 2, 3]
    assert sorted(drawn[1]) == [1, 1, 2, 2]


def made(kind: str, seed: int) -> Uniform | Mixed:
    if kind == "mixed":
        return Mixed([Retire(3, seed), Curriculum(4, seed)], [3, 4], [2.0, 1.0])
    return Climb(7, seed, visits=3) if kind == "climb" else DRAWS[kind](7, seed)


@pytest.mark.parametrize("kind", [*DRAWS, "mixed"])
@given(rates=st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=7, max_size=7), cut=st.integers(0, 6))
def test_continued_from_its_state_as_json_it_draws_the_same(kind: str, rates: list[float], cut: int) -> None:
    whole = steps(made(kind, 5), rates, 3, 6)
    draw = made(kind, 5)
    pieces = []
    for step in range(6):
        if step == cut:
            state = json.loads(json.dumps(draw.state()))
            draw = made(kind, 5)
            draw.restore(state)
            assert draw.state() == state
        pieces.append(draw.take(step, 3))
        draw.saw(step, pieces[-1], [group(rates[index]) for index in pieces[-1]])
    assert pieces == whole


def test_a_state_is_of_its_moment() -> None:
    """A step that is begun must not change what a checkpoint of the one before will hold."""
    for kind in (*DRAWS, "mixed"):
        draw = made(kind, 1)
        steps(draw, [1.0] * 7, 3, 2)
        state = draw.state()
        before = json.dumps(state)
        steps(draw, [1.0] * 7, 3, 2)
        assert json.dumps(state) == before


@pytest.mark.parametrize("kind", [*DRAWS, "mixed"])
def test_what_a_step_drew_follows_from_its_groups(kind: str) -> None:
    """Refills included: the groups say how many rounds there were."""
    problems = [Problem(f"{n}", ({"role": "user", "content": f"{n}"},)) for n in range(7)]

    def reward(episodes: Sequence[Episode]) -> list[Score]:
        number = int(episodes[0].problem.id)
        return [Score(float(number % 3 == 0 or (number % 3 == 1 and e.sample == 0))) for e in episodes]

    source = SynchronousSource(
        problems, ScriptedEngine(["a", "b"]), ScriptedChat(), reward, Sampling(4),
        problems_per_step=3, group_size=2, seed=5, refills=2, draw=made(kind, 5),
    )  # fmt: skip
    again = made(kind, 5)
    for step in range(5):
        groups = source.next(step)
        drawn = redraw(again, step, groups, problems_per_step=3, refills=2)
        assert [g.problem.id for g in groups] == [f"{index}" for index in drawn]
        assert again.state() == source.state()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retire(3, 0, visits=0), "visits must be a whole number above 0, not 0"),
        (lambda: Retire(3, 0, return_after=-1), "return_after must be a whole number above 0, not -1"),
        (lambda: Retire(3, 0, solved="all"), "solved must be a number, not 'all'"),
        (lambda: Curriculum(3, 0, floor=0), "floor must be above 0 and at most 1, not 0"),
        (lambda: Climb(3, 0), "3 problems can't be cut into levels = 4"),
        (lambda: Climb(9, 0, levels=0), "levels must be a whole number above 0, not 0"),
        (lambda: Climb(9, 0, up=0.1), "down must be less than up = 0.1, not 0.1"),
        (lambda: Uniform(3, 0).restore({"parts": []}), "a task with several parts"),
        (lambda: Mixed([Uniform(3, 0)], [3], [1]).restore({"drawn": 3}), "of 0 parts, and the task has 1"),
    ],
)
def test_bad_values_are_named(make, message: str) -> None:
    with pytest.raises(CoveyError, match=message):
        make()
