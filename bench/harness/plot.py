"""A line chart as SVG, and the slope of a line through points: no dependency."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

Points = Sequence[tuple[float, float]]
COLOURS = ("#3465a4", "#c17d11", "#4e9a06", "#a40000", "#75507b")
WIDTH, HEIGHT, MARGIN = 480, 320, 56


def slope(points: Points) -> float | None:
    """Of the least-squares line through the logarithms: y grows as x to this power. 1 is linear, 0 flat.
    None for fewer than two different x."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread if spread else None


def chart(path: Path, title: str, x: str, y: str, series: Mapping[str, Points]) -> None:
    """Write the series as lines with dots; both axes begin at 0."""
    most_x = max(px for points in series.values() for px, _ in points)
    most_y = max(py for points in series.values() for _, py in points)

    def at(px: float, py: float) -> tuple[float, float]:
        return (
            MARGIN + px / most_x * (WIDTH - 2 * MARGIN),
            HEIGHT - MARGIN - py / most_y * (HEIGHT - 2 * MARGIN),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 20, title, anchor="middle"),
        _text(WIDTH / 2, HEIGHT - 12, x, anchor="middle"),
        f'<text x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})" text-anchor="middle">'
        f"{html.escape(y)}</text>",
        f'<path d="M{MARGIN} {MARGIN} V{HEIGHT - MARGIN} H{WIDTH - MARGIN}" fill="none" stroke="black"/>',
    ]
    for i in range(5):
        (tick_x, _), (_, tick_y) = at(most_x * i / 4, 0), at(0, most_y * i / 4)
        parts.append(_text(tick_x, HEIGHT - MARGIN + 16, f"{most_x * i / 4:g}", anchor="middle"))
        parts.append(_text(MARGIN - 6, tick_y + 4, f"{most_y * i / 4:.3g}", anchor="end"))
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(*point) for point in sorted(points)]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in places]
        parts.append(_text(MARGIN + 12, MARGIN + 4 + 14 * number, name, colour=colour))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'
