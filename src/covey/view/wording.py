"""What the viewers say of a step, of an evaluation and of the end, in the same words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from covey.view.figures import duration, figure
from covey.view.progress import StepReport


def percent(share: float) -> str:
    return f"{share:.0%}"


FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("entropy", "entropy", figure),
    ("grad_norm", "grad norm", figure),
    ("mismatch_k3", "mismatch KL", figure),
    ("truncated", "truncated", percent),
)
"""The metrics shown of each step: name, label, format."""

DRAWS = ("greedy", "sampled")


def health(report: StepReport) -> list[tuple[str, str]]:
    """Label and value of the figures that tell whether training is sound."""
    metrics = report.metrics
    return [(label, show(metrics[name])) for name, label, show in FIGURES if name in metrics]


def trained(report: StepReport) -> str | None:
    """How many of the step's groups were trained on."""
    if not {"groups", "groups_trained"} <= report.metrics.keys():
        return None
    return f"{report.metrics['groups_trained']:.0f} of {report.metrics['groups']:.0f}"


def excluded(report: StepReport) -> list[tuple[str, str]]:
    """Each reason for leaving groups out, and the share of the step's groups it left out."""
    return [(reason, percent(share)) for reason, share in report.share_excluded().items()]


def interval(value: Mapping[str, float]) -> str:
    """A mean with its interval: ``0.580 [0.491, 0.664]``."""
    return f"{figure(value['mean'])} [{figure(value['low'])}, {figure(value['high'])}]"


def measured(summary: Mapping[str, Any], draw: str) -> Mapping[str, float] | None:
    """The interval of one draw, if it has one."""
    value = summary.get(draw)
    return None if not value or value["mean"] is None else value


def scores(summary: Mapping[str, Any]) -> dict[str, str]:
    """An evaluation's intervals, by draw; a draw in which nothing was scored is left out."""
    return {draw: interval(value) for draw in DRAWS if (value := measured(summary, draw)) is not None}


def told(summary: Mapping[str, Any]) -> str:
    """An evaluation in a line: its intervals by draw, and how many completions have no score."""
    parts = [f"{draw} {score}" for draw, score in scores(summary).items()]
    if missing := summary.get("unscored"):
        parts.append(f"{missing} of {summary['completions']} completions not scored")
    return "  ".join(parts)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """From one evaluation's intervals to another's, by draw."""
    old, new = scores(before), scores(after)
    return {draw: f"{old[draw]} → {new[draw]}" for draw in DRAWS if draw in old and draw in new}


def verdict(difference: Mapping[str, float]) -> str:
    """What a paired interval of the difference allows to be said: a change only when it excludes 0."""
    if difference["low"] > 0:
        word = "improved"
    elif difference["high"] < 0:
        word = "got worse"
    else:
        word = "no change that can be told from chance"
    return f"{word}: {interval(difference)}"


def outcome(summary: Mapping[str, Any]) -> list[str]:
    """The end of a run: what was done, what the held-out split says of it, where it is recorded."""
    ran = f"{summary['steps']} steps" if "steps" in summary else "done"
    if "train_seconds" in summary:
        ran += f" in {duration(summary['train_seconds'])}"
    parts = [ran, *_changes("held-out", summary)]
    for label, part in (summary.get("parts") or {}).items():
        parts += _changes(f"{label}:", part)
    if "run" in summary:
        parts.append(str(summary["run"]))
    return parts


def _changes(of: str, summary: Mapping[str, Any]) -> list[str]:
    """How each draw's score changed, and what may be said of the difference."""
    said: list[str] = []
    differences = summary.get("difference") or {}
    for draw, change in changes(summary.get("before") or {}, summary.get("after") or {}).items():
        difference = measured(differences, draw)
        said.append(f"{of} {draw} {change}" + (f", {verdict(difference)}" if difference else ""))
    return said
