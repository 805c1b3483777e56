"""Small charts out of characters: a curve of braille dots, a sparkline, a bar of shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]

BLOCKS = "▁▂▃▄▅▆▇█"
SHADES = "█▓▒░"
MARK = "◆"
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot in a braille cell, by row and column (Unicode block U+2800)."""


def value_range(values: Sequence[float]) -> tuple[float, float]:
    """The axis: 0 to 1 for scores that lie in it, so that a small wiggle doesn't look like a rise."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def curve(
    points: Sequence[Point],
    marks: Sequence[Point],
    *,
    width: int,
    height: int,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> list[str]:
    """``height`` lines of ``width`` cells: a line through the points, with ``marks`` as diamonds on it.

    Points that share a column of dots are averaged; x must ascend.
    """
    columns, rows = 2 * width, 4 * height
    heights = _averages([(_place(x, x_range, columns), y) for x, y in points])
    dots = {x: rows - 1 - _place(y, y_range, rows) for x, y in heights.items()}
    cells = [[0] * width for _ in range(height)]
    for x, y in _joined(dots):
        cells[y // 4][x // 2] |= DOTS[y % 4][x % 2]
    lines = [[chr(0x2800 + cell) if cell else " " for cell in row] for row in cells]
    for x, y in marks:
        lines[height - 1 - _place(y, y_range, height)][_place(x, x_range, width)] = MARK
    return ["".join(line) for line in lines]


def sparkline(values: Sequence[float], width: int) -> str:
    """The last ``width`` buckets' means as blocks of eight heights."""
    size = max(1, math.ceil(len(values) / width))
    means = [_mean(values[at : at + size]) for at in range(0, len(values), size)]
    y_range = value_range(values)
    return "".join(BLOCKS[_place(mean, y_range, len(BLOCKS))] for mean in means)


def shares(parts: Mapping[str, float], width: int) -> list[tuple[str, str, float]]:
    """Each part's name, its stretch of a bar ``width`` cells long, and its share of the total.

    Neighbours differ in shade, so that the bar reads without colour. A part that isn't 0 has at
    least one cell; no more than ``width`` are used when there are that many parts or fewer.
    """
    total = sum(parts.values())
    if total <= 0:
        return []
    present = {name: part / total for name, part in parts.items() if part > 0}
    cells = {name: max(1, math.floor(share * width)) for name, share in present.items()}
    largest = max(present, key=lambda name: present[name])
    cells[largest] = max(1, cells[largest] + width - sum(cells.values()))
    return [
        (name, SHADES[index % len(SHADES)] * cells[name], share)
        for index, (name, share) in enumerate(present.items())
    ]


def _place(value: float, span: tuple[float, float], cells: int) -> int:
    """The cell, out of so many, that a value of the range falls in; beyond the range, the nearest."""
    low, high = span
    return min(max(math.floor((value - low) / (high - low) * cells), 0), cells - 1)


def _averages(points: Sequence[tuple[int, float]]) -> dict[int, float]:
    buckets: dict[int, list[float]] = {}
    for x, y in points:
        buckets.setdefault(x, []).append(y)
    return {x: _mean(ys) for x, ys in buckets.items()}


def _joined(dots: Mapping[int, int]) -> list[tuple[int, int]]:
    """The dots and, between neighbours, the dots of a straight line."""
    line = list(dots.items())
    for (x0, y0), (x1, y1) in pairwise(list(dots.items())):
        steps = max(x1 - x0, abs(y1 - y0))
        line += [(x0 + (x1 - x0) * i // steps, y0 + round((y1 - y0) * i / steps)) for i in range(1, steps)]
    return line


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
