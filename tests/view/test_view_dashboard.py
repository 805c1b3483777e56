"""The picture fits its terminal, whatever the size, and shows the most telling things first."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from covey.view.dashboard import dashboard
from covey.view.progress import History, StepReport


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}


def history(steps: int = 30, reply: str = "The answer is 46.") -> History:
    """A run of 40 steps, so far; the reward rises by 0.02 a step, the held-out score with it."""
    run = History(plan={"run": "runs/demo", "model": "tiny", "task": "arithmetic"})
    run.evaluations.append((0, {"greedy": interval(0.2), "sampled": interval(0.1)}))
    for step in range(1, steps + 1):
        metrics = {
            "reward": 0.02 * step,
            "entropy": 0.41,
            "grad_norm": 1.23,
            "mismatch_k3": 0.00032,
            "truncated": 0.02,
            "groups": 16.0,
            "groups_trained": 11.0,
            "tokens_sampled": 1000.0,
        }
        seconds = {"sync": 0.25, "generate": 2.5, "reward": 0.05, "train": 1.95, "record": 0.25}
        good, bad = ("What is 12+34?", "46", 1.0), ("What is 5+6?", reply, 0.0)
        run.add(StepReport(step, 40, metrics, seconds, {"zero variance": 4, "unscored": 1}, good, bad))
    if steps:
        run.evaluations.append((steps, {"greedy": interval(0.5), "sampled": interval(0.4)}))
    return run


def draw(run: History, width: int, height: int, elapsed: float = 150.0) -> list[str]:
    out = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    out.print(dashboard(run, width, height, elapsed))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("height", [24, 40])
def test_everything_is_shown_at_80_columns(height: int) -> None:
    text = "\n".join(draw(history(), 80, height))

    for shown in (
        "covey · runs/demo",
        "model tiny  task arithmetic",
        "30/40",
        "75%   50.0s left",  # 10 steps of 5 s
        "reward    0.600",
        "greedy  0.200 [0.150, 0.250] → 0.500 [0.450, 0.550]",
        "sampled 0.100 [0.050, 0.150] → 0.400 [0.350, 0.450]  step 30",
        "█ generate 50%  ▓ reward 1%  ▒ train 39%  ░ other 10%",
        "tokens/s 200  step 5.00s  elapsed 2m 30s",
        "entropy 0.410  grad norm 1.23  mismatch KL 3.2e-04  truncated 2%",
        "trained 11 of 16  zero variance 25%  unscored 6%",
        "▲ 1.000   What is 12+34?",
        "▼ 0.000   What is 5+6?",
        "The answer is 46.",
    ):
        assert shown in text
    assert text.count("◆") == 3  # the key and two evaluations
    assert "…" not in text  # nothing was cut


def test_the_curve_rises_from_left_to_right() -> None:
    lines = draw(history(), 80, 40)
    dotted = [line for line in lines if any("\u2800" < c <= "\u28ff" for c in line)][
        1:
    ]  # the first is the key
    starts = [min(i for i, c in enumerate(line) if "\u2800" < c <= "\u28ff") for line in dotted]

    assert len(starts) >= 3
    assert starts == sorted(starts, reverse=True)  # the higher the line, the further to the right


def test_a_low_terminal_keeps_the_most_telling_lines() -> None:
    lines = draw(history(), 80, 6)

    assert len(lines) == 5
    assert "30/40" in lines[1]
    assert "0.600   ▁" in lines[2]  # a sparkline stands in for the chart
    assert "entropy" in lines[3]  # one line was left: too few for the two held-out scores


def test_before_the_first_step_it_says_that_it_waits() -> None:
    run = history(steps=0)
    text = "\n".join(draw(run, 80, 24, elapsed=12.0))

    assert "waiting for the first step   12.0s" in text
    assert "sampled 0.100 [0.050, 0.150]  before training" in text


def test_figures_that_were_not_measured_are_left_out() -> None:
    run = History()
    run.add(StepReport(1, 2, {"reward": math.nan}))
    text = "\n".join(draw(run, 80, 24))

    assert "health" not in text
    assert "time " not in text
    assert "groups" not in text
    assert "reward    –" in text


def test_an_evaluation_in_which_nothing_was_scored_is_left_out() -> None:
    run = history()
    run.evaluations = [(0, {"greedy": {"mean": None, "low": None, "high": None}, "sampled": None})]

    assert "greedy" not in "\n".join(draw(run, 80, 40))


def test_a_long_plan_takes_the_lines_it_needs() -> None:
    run = history()
    run.plan = {"run": "r", "steps": 9} | {name: name * 20 for name in "abcd"}  # four times 22 cells
    lines = draw(run, 80, 40)

    assert lines[1].split() == [
        "│",
        "a",
        "a" * 20,
        "b",
        "b" * 20,
        "c",
        "c" * 20,
        "│",
    ]  # 22·3 + 2·2 = 70 of 76
    assert lines[2].split() == ["│", "d", "d" * 20, "│"]


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(24, 200),
    height=st.integers(4, 60),
    steps=st.integers(0, 40),
    reply=st.text(max_size=300) | st.text("数\x1b[\u202e🙂\n", max_size=300),
)
def test_it_always_fits(width: int, height: int, steps: int, reply: str) -> None:
    lines = draw(history(steps, reply), width, height)

    assert len(lines) < height  # the cursor's line stays free
    assert {cell_len(line) for line in lines} == {width}
