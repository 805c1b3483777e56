"""A study as a page of Markdown: what came out, how training went, what each preset is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covey.view.charts import sparkline
from covey.view.figures import duration, figure


def markdown(found: Mapping[str, Any]) -> str:
    """``study.md`` from ``study.json``'s content."""
    parts = [_scores(found), _training(found), _presets(found), *_notes(found)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _scores(found: Mapping[str, Any]) -> list[str]:
    base = found["baseline"]
    lines = [
        f"{len(found['seeds'])} seeds, {found['steps']} steps. Held-out scores after training, with 95 % "
        "intervals clustered by seed and problem; differences paired by seed and problem. "
        f"At most {found['problems']} problems, one greedy and {found['samples']} sampled answers to each; "
        "**bold** where the interval of a difference excludes 0.",
        "",
        f"| preset | seeds | greedy | greedy, less `{base}` | sampled | sampled, less `{base}` | sampled, "
        "less before |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["presets"]:
        cells = [_cell(row["greedy"]), _difference(row["greedy_change"]), _cell(row["sampled"])]
        cells += [_difference(row["sampled_change"]), _difference(row["sampled_gain"])]
        lines.append(f"| `{row['preset']}` | {len(row['seeds'])} | {' | '.join(cells)} |")
    return lines


def _training(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "How training went: means over seeds at the first and the last step, one curve a seed in "
        "`curves.svg`, every step in `curves.csv`.",
        "",
        "| preset | reward | entropy (nats) | length (tokens) | truncated | gradient norm | tokens | a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["presets"]:
        ends = [_ends(row[name]) for name in ("entropy", "length_mean", "truncated", "grad_norm")]
        seconds = [run["train_seconds"] for run in row["runs"].values() if run["train_seconds"] is not None]
        took = duration(sum(seconds) / len(seconds)) if seconds else "–"
        cells = [_curve(row["reward"]), *ends, f"{row['tokens']:,.0f}", took]
        lines.append(f"| `{row['preset']}` | {' | '.join(cells)} |")
    return lines


def _presets(found: Mapping[str, Any]) -> list[str]:
    """The five choices each preset stands for here, the recipe's changes included."""
    choices = ("advantage", "ratio", "surrogate", "aggregation", "kl")
    lines = [
        "What each preset is here:",
        "",
        f"| preset | {' | '.join(choices)} | and |",
        "|---" * (len(choices) + 2) + "|",
    ]
    for row in found["presets"]:
        if row["algorithm"] is None:
            continue
        algorithm = row["algorithm"]
        more = [f"KL in the {algorithm['kl_in']}"] if algorithm["kl"] else []
        more += [_choice(algorithm["selection"])] if algorithm["selection"] else []
        more += [_choice(one) for one in algorithm["correction"]]
        cells = [_choice(algorithm[name]) for name in choices]
        lines.append(f"| `{row['preset']}` | {' | '.join(cells)} | {', '.join(more) or '–'} |")
    return lines


def _notes(found: Mapping[str, Any]) -> list[list[str]]:
    notes = [f"- `{name}` is not finished: {told}" for name, told in found["unfinished"].items()]
    if len(found["code"]) > 1:
        notes.append(f"- the runs were made by {len(found['code'])} versions of the code")
    left_out = sum(
        row[name]["left_out"]
        for row in found["presets"]
        for name in ("greedy_change", "sampled_change")
        if row[name]
    )
    if left_out:
        notes.append(f"- {left_out} held-out results without a partner are in no difference")
    return [notes] if notes else []


def _choice(written: Mapping[str, Any] | None) -> str:
    """``clip (low 0.2, high 0.28)``."""
    if written is None:
        return "–"
    params = ", ".join(f"{name} {value}" for name, value in written.items() if name != "name")
    return f"{written['name']} ({params})" if params else str(written["name"])


def _cell(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return "–"
    low, high = (_bound(interval[name]) for name in ("low", "high"))
    return f"{interval['mean']:.3f} [{low}, {high}]"


def _difference(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return "–"
    low, high = interval["low"], interval["high"]
    certain = (low is not None and low > 0) or (high is not None and high < 0)
    text = f"{interval['mean']:+.3f} [{_bound(low)}, {_bound(high)}]"
    return f"**{text}**" if certain else text


def _bound(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _ends(values: Sequence[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{figure(there[0])} → {figure(there[-1])}" if there else "–"


def _curve(values: Sequence[float | None], width: int = 24) -> str:
    """From the first step to the last, between its own extremes; steps without a score are left out."""
    there = [value for value in values if value is not None]
    return f"{there[0]:.3f} {sparkline(there, width)} {there[-1]:.3f}" if there else "–"
