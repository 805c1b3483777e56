"""The form in which values cross the wall: all plain ones, exactly, and no others."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque
from enum import IntEnum
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.sandbox.child import from_wire, to_wire

KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)
PLAIN = st.recursive(
    KEYS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(KEYS, max_size=4)
    ),
    max_leaves=20,
)


def crossed(value: Any) -> Any:
    return from_wire(json.loads(json.dumps(to_wire(value))))


def types(value: Any) -> Any:
    """The types all the way down, since 1 == 1.0 == True."""
    if isinstance(value, dict):
        return dict, [(types(key), types(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), list(map(types, value))
    return type(value)


@given(PLAIN)
def test_a_plain_value_crosses_exactly(value: Any) -> None:
    assert crossed(value) == value
    assert types(crossed(value)) == types(value)


SIZES = [2**63, -(2**63), 2**64, -(10**5000), 1e308, 5e-324, -0.0, math.inf, -math.inf]


@pytest.mark.parametrize("value", SIZES, ids=range(len(SIZES)))
def test_numbers_cross_whatever_their_size(value: float) -> None:
    assert crossed(value) == value
    assert type(value) is int or math.copysign(1, crossed(value)) == math.copysign(1, value)


def test_not_a_number_and_half_a_character_cross() -> None:
    assert math.isnan(crossed(math.nan))
    assert crossed("a\ud800") == "a\ud800"


@pytest.mark.parametrize("value", [Counter("aab"), defaultdict(int, a=2, b=1), OrderedDict(a=2, b=1)])
def test_the_dicts_of_collections_cross_as_dicts(value: dict[str, int]) -> None:
    assert crossed(value) == {"a": 2, "b": 1}
    assert type(crossed(value)) is dict


class Point(NamedTuple):
    x: int


class Colour(IntEnum):
    RED = 1


class Text(str): ...


@pytest.mark.parametrize(
    "value",
    [
        *(
            Point(1),
            Colour.RED,
            Text("a"),
            Fraction(1, 2),
            deque([1]),
            frozenset({1}),
            b"a",
            1j,
            object(),
            int,
        ),
        *(
            range(3),
            iter([1]),
            map(str, [1]),
            (x for x in [1]),
            {}.keys(),
            NotImplemented,
            ...,
            print,
            memoryview(b""),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_else_crosses_at_any_depth(value: object) -> None:
    for wrapped in (value, [value], (value,), {"a": value}, [[{1: (value,)}]]):
        with pytest.raises(TypeError, match="is no plain value"):
            to_wire(wrapped)


def test_what_contains_itself_doesnt_cross() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(RecursionError):
        to_wire(value)


@pytest.mark.parametrize(
    "data",
    [
        *({}, {"a": 1, "b": 2}, {"pickle": "x"}, {"int": "x"}, {"int": 5}, {"float": "1.5"}, {"float": []}),
        *(
            {"tuple": 1},
            {"set": [[1]]},
            {"set": None},
            {"dict": [1]},
            {"dict": [[1, 2, 3]]},
            {"dict": [[[1], 2]]},
        ),
        *({"set": [{"set": [1]}]}, [{"int": None}], {"list": [1]}, {"bool": True}),
    ],
    ids=repr,
)
def test_a_form_that_is_none_is_refused(data: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        from_wire(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["int", "float", "tuple", "set", "dict", "x"]), inner, max_size=2)
    ),
)


@given(JSON)
def test_whatever_comes_in_is_plain_or_refused(data: Any) -> None:
    try:
        value = from_wire(data)
    except (TypeError, ValueError):
        return
    to_wire(value)  # raises unless it is plain all the way down


@pytest.mark.parametrize("form", ["set", "dict"])
def test_numbers_made_to_collide_are_refused(form: str) -> None:
    """A set of 100,000 numbers of one hash would take the reader minutes."""
    numbers = [to_wire((2**61 - 1) * i) for i in range(100_000)]
    with pytest.raises(ValueError, match="collide"):
        from_wire({form: numbers if form == "set" else [[number, 0] for number in numbers]})
    assert (
        len(from_wire({form: numbers[:40] if form == "set" else [[number, 0] for number in numbers[:40]]}))
        == 40
    )


def test_many_honest_keys_are_read() -> None:
    assert crossed(set(range(50_000))) == set(range(50_000))
