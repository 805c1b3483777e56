"""How a step's time and memory grow: with group size, completions, prompts, batch, and vocabulary.

    python bench/scaling.py [--quick] [--out runs/bench/scaling] [--sweep group_size]

From a middle point (8 problems × group of 8, 64-token prompts, 64-token replies of forced length) one size
is changed at a time, each point in a process of its own: sampling, then the update, with the peak memory of
each. SmolLM2-135M for all but the vocabulary, which is a 4-layer model's of width 256 (``small``). A line for
each point, and one for each sweep with ``slopes``: the power by which seconds or memory grow (1 linear,
0 flat). ``seconds_per_1000_tokens`` counts a group's prompt once. CSV and SVG go to ``--out``.
"""

from __future__ import annotations

import csv
import random
from argparse import Namespace
from functools import cache
from pathlib import Path
from typing import Any

from harness.measure import Report, arguments, parsed, rounded, say, spread
from harness.plot import chart, slope
from harness.work import Case
from harness.workers import Worker

MIDDLE = {"problems": 8, "group_size": 8, "prompt": 64, "reply": 64}
SWEEPS = {
    "group_size": (2, 4, 8, 16, 32),
    "reply": (16, 32, 64, 128, 256),
    "prompt": (16, 32, 64, 128, 256, 512),
    "problems": (2, 4, 8, 16, 32),
    "vocabulary": (1024, 8192, 32768, 131072),
}
FIGURES = ("rollout_seconds", "update_seconds", "rollout_peak_gb", "update_peak_gb")


def main() -> None:
    parser = arguments(__doc__, rounds=3, quick=1)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/scaling"), help="folder of CSV and SVG")
    parser.add_argument(
        "--sweep", action="append", choices=list(SWEEPS), help="may be repeated; all when absent"
    )
    given = parsed(parser)
    report = Report("scaling", given)
    for sweep in given.sweep or SWEEPS:
        values = SWEEPS[sweep][:3] if given.quick else SWEEPS[sweep]
        rows = []
        for value in values:
            say(f"{sweep} = {value}")
            small = given.quick or sweep == "vocabulary"
            vocabulary = value if sweep == "vocabulary" else 1024
            folder = small_model(vocabulary) if small else smollm2(given.threads)
            sizes = MIDDLE | ({} if sweep == "vocabulary" else {sweep: value})
            point = measured(folder, sizes, given)
            rows.append({sweep: value, **point})
            report.line(case=f"{sweep}={value}", model=Path(folder).name, sizes=sizes, **point)
        report.line(case=sweep, slopes=slopes(sweep, rows))
        written(given.out, sweep, rows)


def measured(folder: str, sizes: dict[str, int], given: Namespace) -> dict[str, Any]:
    """One point, in a fresh process, since a process keeps memory it once had."""
    case = Case.even(sizes["problems"], sizes["group_size"], sizes["reply"])
    draw = random.Random(0)
    prompts = [[draw.randrange(3, 90) for _ in range(sizes["prompt"])] for _ in range(sizes["problems"])]
    groups = case.groups(prompts)
    with Worker("covey_parts", {"model": folder, "dtype": given.dtype}, threads=given.threads) as covey:
        covey.call("rollout", groups=Case.even(sizes["problems"], sizes["group_size"], 4).groups(prompts))
        covey.call("update")
        sampled = [covey.call("rollout", groups=groups) for _ in range(given.rounds)]
        learned = [covey.call("update") for _ in range(given.rounds)]
        versions = covey.facts["versions"]
    tokens = sum(map(len, prompts)) + case.tokens
    steps = [s["seconds"] + u["seconds"] for s, u in zip(sampled, learned, strict=True)]
    found = {
        "tokens": tokens,
        "rollout_seconds": spread([s["seconds"] for s in sampled]),
        "update_seconds": spread([u["seconds"] for u in learned]),
        "step_seconds": spread(steps),
        "rollout_peak_gb": max(s["peak_gb"] for s in sampled),
        "update_peak_gb": max(u["peak_gb"] for u in learned),
        "micro_batches": learned[-1]["micro_batches"],
    }
    found["seconds_per_1000_tokens"] = rounded(1000 * found["step_seconds"]["median"] / tokens)
    return found | {"versions": versions}


def slopes(sweep: str, rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """The powers by which figures grow with the swept size, and the step's time with the tokens."""
    found = {name: slope([(row[sweep], figure(row, name)) for row in rows]) for name in FIGURES}
    found["step_seconds_by_tokens"] = slope([(row["tokens"], figure(row, "step_seconds")) for row in rows])
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def figure(row: dict[str, Any], name: str) -> float:
    value = row[name]
    return value["median"] if isinstance(value, dict) else value


def written(out: Path, sweep: str, rows: list[dict[str, Any]]) -> None:
    """A table and two pictures of one sweep."""
    out.mkdir(parents=True, exist_ok=True)
    names = ("tokens", "step_seconds", *FIGURES)
    with (out / f"{sweep}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((sweep, *names))
        writer.writerows([row[sweep], *(figure(row, name) for name in names)] for row in rows)
    for unit, end in (("seconds", "_seconds"), ("GB", "_peak_gb")):
        series = {
            name.removesuffix(end): [(row[sweep], figure(row, name)) for row in rows]
            for name in FIGURES
            if name.endswith(end)
        }
        label = sweep.replace("_", " ")
        chart(out / f"{sweep}{end}.svg", f"{unit} by {label}", label, unit, series)


@cache
def small_model(vocabulary: int) -> str:
    with Worker("widened", threads=1) as worker:
        return worker.call("make", vocabulary=vocabulary)["folder"]


@cache
def smollm2(threads: int) -> str:
    with Worker("prepare", {"model": "smollm2-135m"}, threads=threads) as prepare:
        return prepare.facts["folder"]


if __name__ == "__main__":
    main()
