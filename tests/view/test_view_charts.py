"""Charts out of characters show what they are given."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.view.charts import MARK, curve, shares, sparkline, value_range
from covey.view.figures import duration, figure

values = st.floats(-1e6, 1e6)


def test_a_straight_line_is_drawn_straight() -> None:
    lines = curve([(0, 0.0), (1, 1.0)], [], width=4, height=2, x_range=(0, 1), y_range=(0, 1))

    # Eight columns and eight rows of dots: one dot in each, from bottom left to top right.
    assert lines == ["  ⡠⠊", "⡠⠊  "]


def test_a_level_line_stays_on_its_row() -> None:
    points = [(x, 0.0) for x in range(4)]

    assert curve(points, [], width=2, height=1, x_range=(0, 4), y_range=(0, 1)) == ["⣀⣀"]


def test_the_curve_grows_to_the_right_as_the_run_goes_on() -> None:
    half = curve([(0, 0.5), (5, 0.5)], [], width=10, height=1, x_range=(0, 10), y_range=(0, 1))

    # Up to the column of dots in which 5 of 10 falls: the 11th of 20, the left one of the sixth cell.
    assert half == ["⠒⠒⠒⠒⠒⠂    "]


def test_points_that_share_a_column_are_averaged() -> None:
    wild = [(x / 100, float(x % 2)) for x in range(100)]  # 0 1 0 1 …: mean 0.5 in both columns of dots
    (line,) = curve(wild, [], width=1, height=1, x_range=(0, 1), y_range=(0, 1))

    assert line == "⠒"  # the row that holds 0.5, second from below


def test_a_mark_lies_where_its_value_is() -> None:
    lines = curve([], [(0, 0.0), (10, 1.0)], width=3, height=2, x_range=(0, 10), y_range=(0, 1))

    assert lines == [f"  {MARK}", f"{MARK}  "]


@given(
    st.lists(values, min_size=1, max_size=50),
    st.integers(1, 40),
    st.integers(1, 8),
)
def test_a_curve_fills_exactly_its_space(ys: list[float], width: int, height: int) -> None:
    points = [(float(x), y) for x, y in enumerate(ys)]
    lines = curve(
        points, points[-1:], width=width, height=height, x_range=(0, len(ys)), y_range=value_range(ys)
    )

    assert [len(line) for line in lines] == [width] * height
    assert sum(line.count(MARK) for line in lines) == 1


def test_scores_are_drawn_on_the_whole_scale_from_0_to_1() -> None:
    assert value_range([0.4, 0.5]) == (0.0, 1.0)
    assert value_range([-1.0, 3.0]) == (-1.0, 3.0)
    assert value_range([7.0, 7.0]) == (6.5, 7.5)
    assert value_range([]) == (0.0, 1.0)


def test_a_sparkline_has_eight_heights() -> None:
    assert sparkline([i / 8 for i in range(8)], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.0, 0.25, 0.5, 1.0], 2) == "▂▇"  # means 1/8 and 6/8


@given(st.lists(values, max_size=60), st.integers(1, 30))
def test_a_sparkline_fits(ys: list[float], width: int) -> None:
    assert len(sparkline(ys, width)) == min(len(ys), width) or len(ys) > width >= len(sparkline(ys, width))


def test_shares_fill_the_bar_in_proportion() -> None:
    assert shares({"generate": 6.0, "reward": 0.0, "train": 4.0}, 10) == [
        ("generate", "██████", 0.6),
        ("train", "▓▓▓▓", 0.4),
    ]
    assert shares({}, 10) == shares({"train": 0.0}, 10) == []


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1e5), min_size=1, max_size=5), st.integers(8, 60))
def test_every_part_that_took_time_is_visible(parts: dict[str, float], width: int) -> None:
    bar = shares(parts, width)

    assert all(stretch for _, stretch, _ in bar)
    assert not bar or sum(len(stretch) for _, stretch, _ in bar) == width


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (0.00032, "3.2e-04"),
        (-0.5, "-0.500"),
        (1.0, "1.000"),
        (1.234, "1.23"),
        (45.67, "45.7"),
        (812.4, "812"),
        (12345.0, "12,345"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_figures_are_short(value: float | None, shown: str) -> None:
    assert figure(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.00s"),
        (9.87, "9.87s"),
        (12.34, "12.3s"),
        (59.97, "1m 00s"),
        (252.0, "4m 12s"),
        (11_100.0, "3h 05m"),
        (198_000.0, "2d 07h"),
    ],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
