"""Floats come back bit for bit, and float32 columns are short."""

from __future__ import annotations

import json
import math
import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.records.files import encode
from covey.records.numbers import column, float32_columns, number


def bits(values: tuple[float, ...]) -> list[bytes]:
    return [struct.pack("<d", x) for x in values]


def through_json(values: tuple[float, ...]) -> tuple[float, ...]:
    return column(json.loads(encode(float32_columns({"x": values}))), "x")


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_float32_values_come_back_bit_for_bit(values: list[float]) -> None:
    fields = float32_columns({"x": values})

    assert fields["float32"] == ["x"]
    assert bits(through_json(tuple(values))) == bits(tuple(values))


@given(st.lists(st.floats(allow_nan=False)))
def test_float64_values_come_back_bit_for_bit(values: list[float]) -> None:
    assert bits(through_json(tuple(values))) == bits(tuple(values))


def test_nan_comes_back_as_nan() -> None:
    zero, nan, infinite = through_json((-0.0, math.nan, -math.inf))

    assert math.copysign(1.0, zero) == -1.0
    assert math.isnan(nan)
    assert infinite == -math.inf


@given(st.floats(min_value=2.0**-126, max_value=2.0**127, width=32))
def test_a_normal_float32_is_written_with_the_fewest_digits_that_name_it(value: float) -> None:
    (written,) = float32_columns({"x": (value,)})["x"]
    shortest = next(d for d in range(1, 10) if array("f", [float(f"{value:.{d}g}")])[0] == value)

    assert written == float(f"{value:.{shortest}g}")


def test_one_tenth_in_float32_takes_three_characters() -> None:
    tenth = array("f", [0.1])[0]  # 0.10000000149011612 as a double

    assert encode(float32_columns({"x": (tenth,)})) == b'{"x":[0.1],"float32":["x"]}\n'


def test_one_value_beyond_float32_keeps_its_column_in_float64() -> None:
    fields = float32_columns({"exact": (0.5,), "fine": (0.5, 0.1)})

    assert fields == {"exact": [0.5], "fine": [0.5, 0.1], "float32": ["exact"]}


@pytest.mark.parametrize("text", ["high", "NaN", "", None, [1.0]])
def test_what_is_not_a_number_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        number(text)
