"""Floats in JSON that come back bit for bit.

JSON text has one kind of number and no NaN. Two rules make it exact:

- A column of float32 values (log-probabilities, weights) is printed with the few digits that
  round back to the same float32, and its row names it under ``float32`` so that a reader rounds.
  Any other float is printed as Python does: the shortest decimal of the same float64.
- NaN and the infinities are the strings ``"nan"``, ``"inf"`` and ``"-inf"``.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

SPELLED = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def float32_columns(columns: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The columns as a row's fields, with ``float32`` naming those to be rounded when read."""
    fields: dict[str, Any] = {}
    rounded: list[str] = []
    for name, values in columns.items():
        if array("f", values).tolist() == list(values):
            fields[name] = [_fewest_digits(x) if x else x for x in values]
            rounded.append(name)
        else:
            fields[name] = list(values)
    return fields | {"float32": rounded}


def column(row: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """The exact values of a column written by :func:`float32_columns`."""
    values = [float(number(x)) for x in row[name]]
    return tuple(array("f", values) if name in row["float32"] else values)


def number(value: Any) -> float:
    """A number as read from JSON, spelled non-finite ones included. Raises ValueError otherwise."""
    if isinstance(value, str) and value in SPELLED:
        return SPELLED[value]
    if isinstance(value, int | float):
        return value
    raise ValueError(f"{value!r} is not a number")


def spell(value: Any) -> Any:
    """The same JSON value with its non-finite floats spelled as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        return {key: spell(item) for key, item in cast(Mapping[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [spell(item) for item in cast(Sequence[Any], value)]
    return value


@lru_cache(maxsize=1 << 16)
def _fewest_digits(value: float) -> float:
    """The double of the shortest decimal, six digits or more, that rounds to this float32.

    Nine always suffice; below six there is nothing to gain, for trailing zeros aren't printed.
    """
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if array("f", (short,))[0] == value:
            return short
    return float(f"{value:.9g}")
