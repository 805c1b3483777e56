"""What each view prints, and what it doesn't."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from covey.types import Completion, CoveyError, Episode, Group, Problem, Score, StopReason, Turn, Update
from covey.view import Progress, StepReport, make_view
from covey.view.live import LiveView
from covey.view.progress import History
from covey.view.terminal import JsonView, PlainView, QuietView
from covey.view.wording import outcome

HOSTILE = "\x1b[2J\x1b]0;owned\x07[red]so[/red] \u202eflipped\u202c\nThe answer is 46"
METRICS = {
    "reward": 0.625,
    "entropy": 0.41,
    "grad_norm": 1.234,
    "mismatch_k3": 0.00032,
    "truncated": 0.02,
    "groups": 16.0,
    "groups_trained": 11.0,
    "tokens_sampled": 1000.0,
}
REPORT = StepReport(
    step=3,
    steps=4,
    metrics=METRICS,
    seconds={"generate": 1.5, "reward": 0.0, "train": 0.5},
    excluded={"unscored": 1, "zero variance": 4},
    good=("What is 12+34?", "46", 1.0),
    bad=("What is [b]5+6[/b]?", HOSTILE, 0.0),
)
BEFORE = {
    "greedy": {"mean": 0.125, "low": 0.05, "high": 0.2},
    "sampled": {"mean": 0.1, "low": 0.07, "high": 0.15},
}
AFTER = {
    "greedy": {"mean": 0.5, "low": 0.4, "high": 0.6},
    "sampled": {"mean": 0.45, "low": 0.4, "high": 0.5},
}
ROSE = {"mean": 0.375, "low": 0.25, "high": 0.5}
SUMMARY = {
    "run": "runs/demo",
    "steps": 4,
    "train_seconds": 252.0,
    "before": BEFORE,
    "after": AFTER,
    "difference": {"greedy": ROSE, "sampled": {"mean": 0.35, "low": -0.01, "high": 0.7}},
}
UNSCORED = {"greedy": {"mean": None, "low": None, "high": None}}
ENDING = " · ".join(outcome(SUMMARY))


def console(width: int = 80, *, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, height=40, force_terminal=terminal, color_system=None)


def printed(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def drive(view: Progress) -> None:
    """A run of four steps, of which one is shown."""
    with view:
        view.start({"run": "runs/demo", "model": "tiny"})
        view.evaluation(0, BEFORE)
        view.step(REPORT)
        view.message("a grader took too long [bold]\x1b[31m")
        view.message("the disk is full", error=True)
        view.evaluation(4, AFTER)
        view.finish(SUMMARY)


def test_plain_has_one_line_for_each_thing_that_happens() -> None:
    out = console()
    drive(make_view("plain", out))

    assert printed(out).splitlines() == [
        "run runs/demo  model tiny",
        "held-out after 0 steps  greedy 0.125 [0.050, 0.200]  sampled 0.100 [0.070, 0.150]",
        "step 3/4  reward 0.625  entropy 0.410  grad norm 1.23  mismatch KL 3.2e-04  truncated 2%  "
        "trained 11 of 16 groups  zero variance 25%  unscored 6%  500 tokens/s  2.00s  2.00s left",
        "a grader took too long [bold]",
        "the disk is full",
        "held-out after 4 steps  greedy 0.500 [0.400, 0.600]  sampled 0.450 [0.400, 0.500]",
        ENDING,
    ]


def test_plain_says_nothing_of_what_it_was_not_told() -> None:
    out = console()
    make_view("plain", out).step(StepReport(1, 9, {}))

    assert printed(out) == "step 1/9  reward –\n"


def test_plain_tells_parts_and_what_has_no_score() -> None:
    out = console()
    part = {**UNSCORED, "unscored": 5, "completions": 5}
    make_view("plain", out).evaluation(
        2, {**BEFORE, "unscored": 5, "completions": 9, "parts": {"sums": part}}
    )

    assert printed(out).splitlines() == [
        "held-out after 2 steps  greedy 0.125 [0.050, 0.200]  sampled 0.100 [0.070, 0.150]  "
        "5 of 9 completions not scored",
        "  sums  5 of 5 completions not scored",
    ]


def test_the_end_tells_of_each_part() -> None:
    told = outcome({**SUMMARY, "parts": {"sums": {"before": BEFORE, "after": AFTER, "difference": {}}}})
    assert [line for line in told if line.startswith("sums")] == [
        "sums: greedy 0.125 [0.050, 0.200] → 0.500 [0.400, 0.600]",
        "sums: sampled 0.100 [0.070, 0.150] → 0.450 [0.400, 0.500]",
    ]


def test_quiet_prints_errors_and_the_end() -> None:
    out = console()
    drive(make_view("quiet", out))

    assert printed(out).splitlines() == ["the disk is full", ENDING]


def test_json_is_one_object_a_line() -> None:
    out = console(width=20)
    drive(make_view("json", out))
    rows = [json.loads(line) for line in printed(out).splitlines()]

    assert [row["event"] for row in rows] == [
        "start", "evaluation", "step", "message", "message", "evaluation", "finish",
    ]  # fmt: skip
    assert rows[2]["metrics"] == METRICS
    assert rows[2]["seconds"] == {"generate": 1.5, "reward": 0.0, "train": 0.5}
    assert rows[4] == {"event": "message", "text": "the disk is full", "error": True}
    assert rows[6]["summary"] == SUMMARY
    assert "\x1b" not in printed(out)


def test_json_stays_valid_whatever_the_numbers() -> None:
    out = console()
    make_view("json", out).step(StepReport(1, 2, {"loss": math.nan, "reward": math.inf}))

    assert json.loads(printed(out))["metrics"] == {"loss": "nan", "reward": "inf"}


@pytest.mark.parametrize("mode", ["plain", "live"])
def test_hostile_text_stays_text(mode: str) -> None:
    out = console(width=120, terminal=True)
    drive(make_view(mode, out))
    # What is left of escapes is the view's own: moving up, erasing its lines, hiding the cursor.
    escapes = set(re.findall(r"\x1b[^A-Za-z]*[A-Za-z]", printed(out)))

    assert escapes <= {"\x1b[1A", "\x1b[2K", "\x1b[?25l", "\x1b[?25h"}
    assert "\u202e" not in printed(out)
    assert "owned" not in printed(out)
    assert "a grader took too long [bold]" in printed(out)
    if mode == "live":
        assert "[red]so[/red] ⟨U+202E⟩flipped⟨U+202C⟩⏎The answer is 46" in printed(out)
        assert "What is [b]5+6[/b]?" in printed(out)


def test_live_leaves_the_last_picture_and_the_cursor() -> None:
    out = console(terminal=True)
    drive(make_view("live", out))
    text = printed(out)

    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # hidden once, shown again once
    assert text.index("\x1b[?25h") > text.rindex("╰──")
    assert "0.125 [0.050, 0.200] → 0.500 [0.400, 0.600]" in text


def test_live_gives_the_terminal_back_when_training_fails() -> None:
    out = console(terminal=True)

    def failing() -> None:
        with make_view("live", out) as view:
            view.start({})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert "\x1b[?25h" in printed(out)


def test_live_shows_how_long_it_has_been_waiting() -> None:
    now = 100.0
    out = console(terminal=True)
    view = LiveView(out, clock=lambda: now)
    view.start({"run": "runs/demo"})
    now = 112.0
    view.close()

    assert "waiting for the first step   12.0s" in printed(out)


@pytest.mark.parametrize(
    ("mode", "terminal", "kind"),
    [
        ("auto", True, LiveView),
        ("auto", False, PlainView),
        ("live", True, LiveView),
        ("live", False, PlainView),
        ("plain", True, PlainView),
        ("quiet", True, QuietView),
        ("json", True, JsonView),
    ],
)
def test_the_view_follows_the_mode_and_the_terminal(mode: str, terminal: bool, kind: type) -> None:
    assert type(make_view(mode, console(terminal=terminal))) is kind


def test_a_terminal_that_lacks_a_character_does_not_end_the_run() -> None:
    raw = io.BytesIO()
    ascii_only = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    out = Console(file=ascii_only, force_terminal=True, color_system=None, width=80)
    drive(make_view("auto", out))

    assert b"greedy 0.125 [0.050, 0.200] ? 0.500 [0.400, 0.600]" in raw.getvalue()  # → became ?


def test_an_unknown_mode_names_the_one_that_was_meant() -> None:
    with pytest.raises(CoveyError, match="unknown view 'plan': did you mean 'plain'"):
        make_view("plan", console())


def test_improved_is_said_only_when_the_interval_excludes_zero() -> None:
    assert outcome(SUMMARY) == [
        "4 steps in 4m 12s",
        "held-out greedy 0.125 [0.050, 0.200] → 0.500 [0.400, 0.600], improved: 0.375 [0.250, 0.500]",
        "held-out sampled 0.100 [0.070, 0.150] → 0.450 [0.400, 0.500], "
        "no change that can be told from chance: 0.350 [-0.010, 0.700]",
        "runs/demo",
    ]
    worse = SUMMARY | {"difference": {"greedy": {"mean": -0.2, "low": -0.3, "high": -0.1}}}
    assert outcome(worse)[1].endswith("got worse: -0.200 [-0.300, -0.100]")
    assert "improved" not in " ".join(outcome(worse))


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"before": None, "after": {"greedy": None}},
        {"before": UNSCORED, "after": UNSCORED, "difference": UNSCORED},
    ],
)
def test_the_end_can_be_told_of_a_run_without_evaluations(summary: Mapping[str, Any]) -> None:
    assert outcome(summary) == ["done"]


def test_a_report_is_made_of_groups_and_update() -> None:
    problem = Problem(
        "1+1", ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"})
    )

    def group(values: tuple[float | None, ...], excluded: str | None = None) -> Group:
        episodes = tuple(
            Episode(problem, i, (Turn((1,), Completion((2,), (-0.5,), StopReason.END, 0, f"reply {v}")),))
            for i, v in enumerate(values)
        )
        return Group(problem, episodes, tuple(Score(v) for v in values), excluded)

    groups = [
        group((0.5, 1.0)),
        group((0.25, None)),
        group((None, None), "unscored"),
        group((0.5, 0.5), "zero variance"),
        group((0.5, 0.5), "zero variance"),
    ]
    report = StepReport.of(1, 9, groups, Update(True, {"groups": 5.0}), {"train": 1.0})

    assert report.good == ("1+1?", "reply 1.0", 1.0)
    assert report.bad == ("1+1?", "reply 0.25", 0.25)
    assert report.share_excluded() == {"zero variance": 0.4, "unscored": 0.2}  # 2 and 1 of 5
    level = StepReport.of(1, 9, groups[3:], Update(False, {}), {})
    assert level.good == ("1+1?", "reply 0.5", 0.5)
    assert level.bad is None
    none = StepReport.of(1, 9, groups[2:3], Update(False, {}), {})
    assert (none.good, none.bad) == (None, None)


def test_the_time_left_is_the_median_step_times_the_steps_left() -> None:
    history = History()
    assert history.left() is None
    for step, seconds in enumerate([60.0, 2.0, 3.0, 2.0, 2.0], start=1):
        history.add(replace(REPORT, step=step, steps=15, seconds={"train": seconds}))

    assert history.left() == 20.0  # 10 steps of 2 s: the slow first one doesn't count


def test_tokens_a_second_are_over_the_whole_step() -> None:
    assert REPORT.speed == 500.0  # 1000 tokens in 1.5 + 0.5 s
    assert replace(REPORT, seconds={}).speed is None
