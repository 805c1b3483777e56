"""Intervals over runs that share seeds and problems."""

from __future__ import annotations

import math

import pytest

from covey.evals.study import change, level, two_way
from covey.types import CoveyError


def test_two_way_by_hand() -> None:
    # rows are seeds, columns problems: 0 2 / 2 4, mean 2; off: -2 0 / 0 2
    cells = {(0, "a"): 0.0, (0, "b"): 2.0, (1, "a"): 2.0, (1, "b"): 4.0}
    # sums by seed -2, 2: 2/1 · 8/16 = 1; by problem the same; single values 4/3 · 8/16 = 2/3
    # variance 1 + 1 - 2/3 = 4/3, and t with 1 degree of freedom is 12.706
    found = two_way(cells)
    assert found.mean == 2.0
    assert found.high - 2 == pytest.approx(12.706 * math.sqrt(4 / 3))
    assert 2 - found.low == pytest.approx(12.706 * math.sqrt(4 / 3))


def test_one_seed_leaves_the_problems() -> None:
    # off -1, 0, 1: 3/2 · 2/9 = 1/3, and t with 2 degrees of freedom is 4.303
    found = two_way({(7, p): float(i) for i, p in enumerate("abc")})
    assert found.high - 1 == pytest.approx(4.303 * math.sqrt(1 / 3))


def test_a_single_value_has_no_bounds() -> None:
    assert two_way({(0, "a"): 1.0}).high == math.inf


def test_equal_scores_keep_a_width_and_stay_scores() -> None:
    found = level({(seed, p): [1.0, 1.0] for seed in range(3) for p in "abcd"})
    assert found.mean == found.high == 1.0
    assert found.low < 0.9


def test_pairing_takes_out_what_problems_and_seeds_share() -> None:
    before = {(s, p): [0.1 * s + 0.08 * i] for s in range(5) for i, p in enumerate("abcdefgh")}
    after = {key: [value + 0.04 - 0.01 * (key[0] % 2)] for key, (value,) in before.items()}
    apart = change(before, after)
    assert apart.mean == pytest.approx(0.04 - 0.01 * 2 / 5)  # seeds 1 and 3 of five
    assert 0 < apart.low < apart.high < 0.08  # the scores themselves range from 0 to 1


def test_pairs_that_all_differ_alike_keep_a_width() -> None:
    same = {(s, p): [0.5] for s in range(3) for p in "abcd"}
    assert change(same, same).low < 0 < change(same, same).high


def test_other_problems_are_refused() -> None:
    with pytest.raises(CoveyError, match="same seeds and held-out problems"):
        change({(0, "a"): [1.0]}, {(0, "b"): [1.0]})
