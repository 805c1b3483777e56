"""Intervals: published values, their limits, and how often they hold what they should."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import combinations
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.evals.intervals import clustered, paired, pass_at_k, wilson
from covey.types import CoveyError, Interval

Z = NormalDist().inv_cdf(0.975)  # 1.96

# Five problems, four answers each; means 0.75, 0.25, 1, 0, 0.5.
ANSWERS = [[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0] * 4, [0.0] * 4, [1.0, 0.0, 1.0, 0.0]]
CLUSTERED_SE = 0.1767766952966369  # sqrt(0.625 / (5 × 4)); over the 20 answers it would be 0.1147

SHARE = st.floats(0, 1, allow_subnormal=False)
UNIT = st.lists(st.lists(SHARE, min_size=1, max_size=4), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [
        (7, 30, 0.11792388144489496, 0.40928326158122164),
        (15, 30, 0.33154125640533766, 0.6684587435946623),
        (0, 30, 0.0, 0.11351339317396876),
        (1032, 1319, 0.7593410476017369, 0.8038405755870036),
    ],
)
def test_wilson_and_one_answer_a_problem_agree(right: int, of: int, low: float, high: float) -> None:
    for interval in (wilson(right / of, of), clustered([[1.0]] * right + [[0.0]] * (of - right))):
        assert interval.mean == pytest.approx(right / of, rel=1e-12)
        assert interval.low == pytest.approx(low, rel=1e-9, abs=1e-15)
        assert interval.high == pytest.approx(high, rel=1e-9)


def test_several_answers_a_problem_count_by_problem() -> None:
    # n = p(1-p) / (Σ(m-p)² / P²) = 0.25 / (0.625 / 25) = 10: more than 5 problems, less than 20 answers
    interval = clustered(ANSWERS)
    assert interval.mean == 0.5
    expected = wilson(0.5, 10)
    assert (interval.low, interval.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    naive = wilson(0.5, 20)
    assert interval.high - interval.low > naive.high - naive.low


def test_values_outside_0_and_1_have_the_clustered_standard_error() -> None:
    interval = clustered([[value - 3 for value in values] for values in ANSWERS])
    assert interval.mean == -2.5
    assert interval.high - interval.mean == pytest.approx(Z * CLUSTERED_SE, rel=1e-12)
    assert interval.mean - interval.low == pytest.approx(Z * CLUSTERED_SE, rel=1e-12)


def test_a_problem_counts_once_however_often_it_was_answered() -> None:
    assert clustered([[1.0] * 9, [0.0]]).mean == 0.5


def test_all_right_still_has_a_width() -> None:
    # 30 problems, four right answers each, tell no more than 30 right answers: low = 1/(1 + z²/30)
    interval = clustered([[1.0] * 4] * 30)
    assert _triple(interval) == pytest.approx((1.0, 1 / (1 + Z**2 / 30), 1.0))
    assert clustered([[0.5, 0.5]] * 30).low == pytest.approx(wilson(0.5, 30).low)


def test_one_problem_says_nothing_of_others() -> None:
    assert clustered([[2.0, 3.0]]) == Interval(2.5, -math.inf, math.inf)
    assert paired({"a": [0.0]}, {"a": [5.0]}) == Interval(5.0, -math.inf, math.inf)


@given(UNIT)
def test_a_unit_interval_stays_inside_around_its_mean_and_has_a_width(values: list[list[float]]) -> None:
    interval = clustered(values)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    assert interval.low < interval.high


@given(UNIT, st.randoms(use_true_random=False))
def test_the_order_of_problems_does_not_matter(values: list[list[float]], order: random.Random) -> None:
    other = values[:]
    order.shuffle(other)
    assert _triple(clustered(other)) == pytest.approx(_triple(clustered(values)))


def _triple(interval: Interval) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high


def test_a_higher_level_is_wider() -> None:
    narrow, wide = clustered(ANSWERS, level=0.5), clustered(ANSWERS, level=0.99)
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    """40 problems, 4 answers each, a problem's own rate anywhere in [0, 1]: the truth is 0.5."""
    draw = random.Random(7).random
    held = 0
    for _ in range(1000):
        rates = [draw() for _ in range(40)]
        interval = clustered([[float(draw() < rate) for _ in range(4)] for rate in rates])
        held += interval.low <= 0.5 <= interval.high
    assert 920 <= held <= 980  # 950 ± 4 × sqrt(1,000 × 0.95 × 0.05) = 28


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    before = {str(i): [rate / 100] for i, rate in enumerate(range(0, 90, 3))}
    after = {key: [values[0] + 0.1] for key, values in before.items()}
    difference = paired(before, after)
    assert difference.mean == pytest.approx(0.1)
    assert clustered(list(before.values())).high > clustered(list(after.values())).low  # they overlap
    # two added problems, +1 and -1: 32 differences, mean 3/32, sum of squares 30 × 0.01 + 2
    centre = 3 / 32
    half = Z * math.sqrt((30 * 0.01 + 2) / 32 - centre**2) / math.sqrt(32)
    assert (difference.low, difference.high) == (pytest.approx(centre - half), pytest.approx(centre + half))


def test_the_paired_interval_outside_0_and_1_is_the_plain_one() -> None:
    # differences 1, 3: mean 2, SE = sqrt(2 / (2 × 1)) = 1
    difference = paired({"a": [1.0], "b": [2.0, 4.0]}, {"b": [6.0], "a": [2.0]})
    assert _triple(difference) == pytest.approx((2.0, 2 - Z, 2 + Z))


@given(st.dictionaries(st.text(), st.tuples(SHARE, SHARE), min_size=1, max_size=8))
def test_a_paired_interval_is_antisymmetric_and_bounded(values: dict[str, tuple[float, float]]) -> None:
    before = {key: [old] for key, (old, _) in values.items()}
    after = {key: [new] for key, (_, new) in values.items()}
    there, back = paired(before, after), paired(after, before)
    assert _triple(there) == pytest.approx((-back.mean, -back.high, -back.low))
    assert -1 <= there.low <= there.mean <= there.high <= 1
    assert there.low < there.high


def test_an_improvement_takes_more_than_two_lucky_problems() -> None:
    def gained(problems: int) -> Interval:
        ids = [str(i) for i in range(problems)]
        return paired({i: [0.0] for i in ids}, {i: [1.0] for i in ids})

    assert gained(2).low <= 0
    assert gained(6).low > 0
    assert paired({"a": [1.0]}, {"a": [1.0]}).low <= 0


def test_paired_problems_must_be_the_same() -> None:
    with pytest.raises(CoveyError) as caught:
        paired({"a": [1.0], "b": [1.0]}, {"a": [1.0], "c": [1.0], "d": [0.0]})
    assert str(caught.value) == (
        "a paired comparison needs the same problems: 1 are only before, 2 only after, such as 'b'"
    )


@pytest.mark.parametrize("values", [[], [[]], [[1.0], []]])
def test_no_value_has_no_interval(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one problem"):
        clustered(values)


@pytest.mark.parametrize(
    ("n", "c", "expected"),
    [
        (10, 3, {1: 0.3, 2: 0.5333333333333333, 4: 0.8333333333333334, 8: 1.0}),
        (
            64,
            5,
            {
                1: 0.078125,
                2: 0.15128968253968256,
                4: 0.2836902873259298,
                8: 0.4990084611316764,
                16: 0.7754211679383546,
                32: 0.9735883424408015,
                64: 1.0,
            },
        ),
        (16, 0, {1: 0.0, 16: 0.0}),
        (16, 16, {1: 1.0, 16: 1.0}),
    ],
)
def test_pass_at_k(n: int, c: int, expected: dict[int, float]) -> None:
    assert {k: pass_at_k(n, c, k) for k in expected} == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_counts_the_subsets_with_a_right_answer(numbers: tuple[int, int, int]) -> None:
    n, c, k = numbers
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(float(Fraction(sum(map(any, subsets)), len(subsets))))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_pass_at_k_refuses_what_it_cannot_estimate(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@k needs"):
        pass_at_k(n, c, k)
