"""The picture the live view draws: a pure function of what is known and of the terminal's size.

Colours are Okabe and Ito's, told apart with every kind of colour vision; nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from covey.view.charts import MARK, curve, shares, sparkline, value_range
from covey.view.figures import duration, figure
from covey.view.progress import History, Shown, StepReport
from covey.view.text import safe, shorten
from covey.view.wording import changes, excluded, health, measured, percent, scores, trained

BLUE, ORANGE, GREEN, PURPLE = "#56b4e9", "#e69f00", "#009e73", "#cc79a7"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
PHASES = ("generate", "reward", "train")
"""The phases of a step that have their own share of the bar; the rest is ``other``."""
LABEL = 10
"""Cells of the label at the start of a line."""
CHART_ROWS = (3, 7)
"""The chart's least and greatest height, in lines."""
REPLY_ROWS = 2
BLOCKS = (
    ("plan", "progress"),
    ("reward", "chart"),
    ("held-out",),
    ("time", "speed", "health", "groups"),
    ("samples",),
)
"""The sections from top to bottom; a blank line comes between blocks where there is room."""
IMPORTANCE = ("progress", "reward", "held-out", "health", "groups", "time", "speed", "samples", "plan")
"""The sections as they are given room."""

Lines: TypeAlias = list[Text]


def dashboard(history: History, width: int, height: int, elapsed: float) -> RenderableType:
    """All there is room for, the most telling first. ``elapsed`` is in seconds."""
    inner = max(width - 4, 20)
    lines = _arranged(history, inner, height - 3, elapsed)  # less the frame and the cursor's line
    for line in lines:
        line.no_wrap = True
        line.truncate(inner, overflow="ellipsis")
    title = Text.assemble(("covey", f"bold {BLUE}"), " · ", safe(str(history.plan.get("run", "training"))))
    return Panel(
        Group(*lines), title=title, title_align="left", box=box.ROUNDED, width=inner + 4, border_style="dim"
    )


def _arranged(history: History, width: int, room: int, elapsed: float) -> Lines:
    """The sections that fit into ``room`` lines, in their order."""
    sections = _sections(history, width, elapsed)
    shown: dict[str, Lines] = {}
    for name in IMPORTANCE:
        if 0 < len(sections[name]) <= room:
            shown[name] = sections[name]
            room -= len(sections[name])
    least, most = CHART_ROWS
    if history.rewards and room > least:
        rows = max(least, min(most, room - len(BLOCKS)))
        shown |= {"reward": [_reward(history, 0)], "chart": _chart(history, width, rows)}
        room -= rows + 1
    lines: Lines = []
    for block in BLOCKS:
        block_lines = [line for name in block for line in shown.get(name, [])]
        if lines and block_lines and room > 0:
            lines.append(Text())
            room -= 1
        lines += block_lines
    return lines


def _sections(history: History, width: int, elapsed: float) -> dict[str, Lines]:
    last = history.last
    sections: dict[str, Lines] = {name: [] for name in IMPORTANCE}
    sections["plan"] = _plan(history, width)
    sections["progress"] = [_progress(history, width, elapsed)]
    sections["held-out"] = _held_out(history)
    if last is not None:
        sections["reward"] = [_reward(history, width - 2 * LABEL)]
        sections["health"] = _pairs("health", health(last))
        sections["groups"] = _groups(last)
        sections["time"] = _time(last, width)
        sections["speed"] = [_speed(last, elapsed)]
        sections["samples"] = [
            *_sample("▲", GREEN, last.good, width),
            *_sample("▼", ORANGE, last.bad, width),
        ]
    return sections


def _labelled(label: str, *parts: str | Text | tuple[str, str]) -> Text:
    return Text.assemble((f"{label:<{LABEL}}", "dim"), *parts)


def _pairs(label: str, pairs: Sequence[tuple[str, str]]) -> Lines:
    """One line of names and values; none when there are no values."""
    parts = [Text.assemble((f"{name} ", "dim"), safe(value)) for name, value in pairs]
    return [_labelled(label, Text("  ").join(parts))] if parts else []


def _plan(history: History, width: int) -> Lines:
    lines: Lines = []
    for name, value in history.plan.items():
        if name in ("run", "steps"):
            continue
        part = Text.assemble((f"{safe(name)} ", "dim"), safe(str(value)))
        if lines and lines[-1].cell_len + 2 + part.cell_len <= width:
            lines[-1].append("  ").append_text(part)
        else:
            lines.append(part)
    return lines


def _progress(history: History, width: int, elapsed: float) -> Text:
    last, left = history.last, history.left()
    if last is None:
        return _labelled("step", f"waiting for the first step   {duration(elapsed)}")
    share = last.step / max(last.steps, 1)
    count = f"{last.step}/{last.steps}"
    tail = f"  {percent(share)}" + (f"   {duration(left)} left" if left else "")
    cells = max(width - LABEL - len(count) - 2 - len(tail), 0)
    done = round(cells * share)
    bar = Text.assemble(("━" * done, BLUE), ("─" * (cells - done), "dim"))
    return _labelled("step", f"{count}  ", bar, tail)


def _reward(history: History, line_width: int) -> Text:
    """The last reward: with a sparkline where there is no room for the chart (width 0: there is)."""
    values = [reward for _, reward in history.rewards]
    now = Text(f"{figure(values[-1] if values else None)}   ", style="bold")
    if line_width > 0:
        return _labelled("reward", now, (sparkline(values, line_width), BLUE))
    key = Text.assemble(("⠤⠒ ", BLUE), ("training", "dim"))
    if history.evaluations:
        key.append_text(Text.assemble((f"   {MARK} ", ORANGE), ("held-out", "dim")))
    return _labelled("reward", now, key)


def _chart(history: History, width: int, rows: int) -> Lines:
    steps = max(history.last.steps if history.last else 1, 1)
    marks = [(float(step), mean) for step, summary in history.evaluations for mean in _mean(summary)]
    low, high = value_range([y for _, y in [*history.rewards, *marks]])
    cells = width - LABEL
    lines = curve(history.rewards, marks, width=cells, height=rows, x_range=(0, steps), y_range=(low, high))
    labels = [figure(high), *[""] * (rows - 2), figure(low)]
    chart: Lines = []
    for label, line in zip(labels, lines, strict=True):
        drawn = Text(line, style=BLUE)
        drawn.highlight_regex(MARK, ORANGE)
        chart.append(Text.assemble((f"{label:>{LABEL - 2}}  ", "dim"), drawn))
    chart.append(Text(f"{'0':>{LABEL + 1}}{steps:>{cells - 1}}", style="dim"))
    return chart


def _mean(summary: Mapping[str, Any]) -> list[float]:
    """The mean that training's reward compares with: of sampled answers, if they were drawn."""
    value = measured(summary, "sampled") or measured(summary, "greedy")
    return [value["mean"]] if value else []


def _held_out(history: History) -> Lines:
    if not history.evaluations:
        return []
    (_, first), (step, latest) = history.evaluations[0], history.evaluations[-1]
    told = changes(first, latest) if len(history.evaluations) > 1 else scores(latest)
    lines = [
        _labelled("" if index else "held-out", (f"{draw:<8}", "dim"), value)
        for index, (draw, value) in enumerate(told.items())
    ]
    if lines:
        lines[-1].append(f"  step {step}" if step else "  before training", style="dim")
    return lines


def _time(report: StepReport, width: int) -> Lines:
    """How the step's time was spent: a bar as long as its key leaves room for."""
    seconds = {phase: report.seconds.get(phase, 0.0) for phase in PHASES}
    seconds["other"] = sum(spent for phase, spent in report.seconds.items() if phase not in PHASES)
    parts = shares(seconds, 1)
    key = [(safe(name), percent(share)) for name, _, share in parts]
    taken = sum(len(f"  █ {name} {share}") for name, share in key)
    bar = shares(seconds, max(min(width - LABEL - taken, width // 3), len(parts)))
    line = _labelled("time")
    for index, (_, stretch, _) in enumerate(bar):
        line.append(stretch, style=COLOURS[index % len(COLOURS)])
    for index, ((_, stretch, _), (name, share)) in enumerate(zip(bar, key, strict=True)):
        line.append(f"  {stretch[0]}", style=COLOURS[index % len(COLOURS)])
        line.append(f" {name} ").append(share, style="dim")
    return [line] if bar else []


def _speed(report: StepReport, elapsed: float) -> Text:
    parts = [("tokens/s", figure(report.speed)), ("step", duration(report.duration))]
    return _pairs("speed", [*parts, ("elapsed", duration(elapsed))])[0]


def _groups(report: StepReport) -> Lines:
    counted = trained(report)
    told = [("trained", counted)] if counted else []
    return _pairs("groups", [*told, *excluded(report)])


def _sample(mark: str, style: str, shown: Shown | None, width: int) -> Lines:
    """A prompt and what was answered, cut to a few lines that keep the answer's end."""
    if shown is None:
        return []
    prompt, reply, score = shown
    cells = width - LABEL
    head = Text.assemble((f"{mark} {figure(score):<{LABEL - 2}}", style), (_cut(prompt, cells), "dim"))
    lines = chop_cells(_cut(reply, REPLY_ROWS * cells), cells)[:REPLY_ROWS] or ["(empty)"]
    return [head, *(Text(" " * LABEL + line) for line in lines)]


def _cut(text: str, cells: int) -> str:
    """Safe text of at most so many cells; a character takes two at most."""
    clean = safe(shorten(text, 20 * cells))
    short = shorten(clean, cells)
    return short if cell_len(short) <= cells else shorten(clean, cells // 2)
