"""A study's curves as an SVG of small panels, one a preset, all on the same axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from covey.view.charts import value_range

WIDTH, HEIGHT, COLUMNS, TITLE = 270, 190, 3, 64
LEFT, RIGHT, TOP, BOTTOM = 42, 12, 26, 26


def panels(found: Mapping[str, Any]) -> str:
    """``curves.svg`` from ``study.json``'s content: the training reward at each step, thin for every
    seed, thick for their mean, grey for the first preset's; held-out scores as rings."""
    rows: Sequence[Mapping[str, Any]] = found["presets"]
    seen = [v for row in rows for seed in row["rewards"].values() for v in seed if v is not None]
    y_range = value_range([*seen, *(y for row in rows for _, y in row["heldout"])])
    columns = min(COLUMNS, len(rows))
    width, height = columns * WIDTH, TITLE + -(-len(rows) // columns) * HEIGHT
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="12" y="22" font-size="14" font-weight="bold">Training reward by step</text>',
        f'<text x="12" y="40">thin: a seed · thick: their mean · grey: {escape(found["baseline"])}</text>',
        '<text x="12" y="55">ring: held-out, sampled, mean</text>',
    ]
    for number, row in enumerate(rows):
        down, along = divmod(number, columns)
        drawn += _panel(row, rows[0], (along * WIDTH, TITLE + down * HEIGHT), y_range, found["steps"])
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _panel(
    row: Mapping[str, Any],
    base: Mapping[str, Any],
    at: tuple[int, int],
    y_range: tuple[float, float],
    steps: int,
) -> list[str]:
    x, y = at
    left, right, top, bottom = x + LEFT, x + WIDTH - RIGHT, y + TOP, y + HEIGHT - BOTTOM

    def place(step: float, value: float) -> str:
        across = left + (right - left) * step / max(steps, 1)
        up = (value - y_range[0]) / (y_range[1] - y_range[0])
        return f"{across:.1f},{bottom - (bottom - top) * up:.1f}"

    def line(values: Iterable[float | None], style: str) -> str:
        points = " ".join(place(step, value) for step, value in enumerate(values) if value is not None)
        return f'<polyline points="{points}" fill="none" {style}/>'

    drawn = [
        f'<text x="{left}" y="{y + 18}" font-weight="bold">{escape(row["preset"])}</text>',
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#999"/>',
        f'<text x="{left - 5}" y="{top + 8}" text-anchor="end">{y_range[1]:.3g}</text>',
        f'<text x="{left - 5}" y="{bottom}" text-anchor="end">{y_range[0]:.3g}</text>',
        f'<text x="{left}" y="{bottom + 15}">0</text>',
        f'<text x="{right}" y="{bottom + 15}" text-anchor="end">{steps} steps</text>',
    ]
    drawn += [line(seed, 'stroke="#1f77b4" stroke-opacity=".35"') for seed in row["rewards"].values()]
    if row is not base:
        drawn.append(line(base["reward"], 'stroke="#888" stroke-width="1.5"'))
    drawn.append(line(row["reward"], 'stroke="#1f77b4" stroke-width="2.5"'))
    for step, value in row["heldout"]:
        cx, cy = place(step, value).split(",")
        drawn.append(f'<circle cx="{cx}" cy="{cy}" r="3.5" fill="#fff" stroke="#d62728" stroke-width="1.5"/>')
    return drawn
