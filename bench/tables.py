"""Writes the tables of docs/performance.md from benchmarks' JSON lines.

    python bench/tables.py MACHINE results.jsonl [more.jsonl …] [--page docs/performance.md]

The page has a block of tables for each machine it tells of, between two comments with the machine's name
(``zen3``, say), which is replaced. Of two lines on the same thing the later counts; lines of ``--quick`` runs
are refused, and so are lines of several processors. A cell without a line stays empty; a row or a table
without any is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def marks(machine: str) -> tuple[str, str]:
    """The comments that stand before and after a machine's tables."""
    return f"<!-- figures of {machine}: written by bench/tables.py -->", f"<!-- end of {machine} -->"


class Found:
    """The lines by benchmark, case and peer, the last of each."""

    def __init__(self, lines: Iterable[Line]) -> None:
        given = list(lines)
        self.lines = list({(x["bench"], x["case"], x["against"]): x for x in given}.values())
        if any(line["quick"] for line in self.lines):
            raise SystemExit("these are figures of a --quick run, which shows that all works and no more")
        kinds = {f"{x['machine']['cpu']} {x['machine']['family']}" for x in given}
        if len(kinds) > 1:
            told = ", ".join(sorted(kinds))
            raise SystemExit(f"these lines are of several processors ({told}): give those of one")

    def cases(self, bench: str, *usual: str) -> list[str]:
        """A benchmark's cases in the usual order, then others that were measured."""
        more = dict.fromkeys(line["case"] for line in self.lines if line["bench"] == bench)
        return [*usual, *(case for case in more if case not in usual)]

    def line(self, bench: str, case: str, against: str = "") -> Line:
        """The last such line; `against` is how its peer begins. Empty when there is none."""
        fitting = [
            line
            for line in self.lines
            if (line["bench"], line["case"]) == (bench, case) and (line["against"] or "").startswith(against)
        ]
        return fitting[-1] if fitting else {}


def cell(line: Line, *path: str) -> str:
    """A figure by its path into a line; of a spread its median with the range."""
    value: Any = line
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return ""
    if isinstance(value, dict):
        return f"{value['median']:g} ({value['min']:g}–{value['max']:g})"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def own(line: Line, shown: Line) -> str:
    """Covey's own figure where a peer was measured beside another one than that of the row."""
    apart = line and shown and line["covey"] != shown["covey"]
    return f" (Covey {cell(line, 'covey', 'tokens_per_second')})" if apart else ""


def taken(*lines: Line) -> str:
    """The largest share of the machine that went to other programs, or to a hypervisor's other guests."""
    return f"{max(line['others'] for line in lines if line):.0%}" if any(lines) else ""


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of the rows that have a figure beside their name; nothing when none has."""
    told = [row for row in rows if any(one.strip(" ·") for one in row[1:])]
    if not told:
        return []
    return [title, "", *(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *told)), ""]


def page(found: Found) -> list[str]:
    """All tables, with the machine they were measured on."""
    return [
        *machines(found),
        *rollout(found),
        *update(found),
        *steps(found),
        *reward(found),
        *growth(found),
        *start(found),
    ]


def machines(found: Found) -> list[str]:
    told = {
        f"{m['cpu']} ({m['family']}), {m['threads']} of {m['cores']} cores, {', '.join(m['flags'])}, "
        f"{m['memory_gb']} GB, {line['dtype']}; {line['at'][:10]}"
        for line in found.lines
        for m in [line["machine"]]
    }
    worst = max((line["others"] for line in found.lines), default=0.0)
    return [
        *sorted(told),
        f"\nOther programs used at most {worst:.1%} of the machine. Medians, with their range.",
        "",
    ]


def rollout(found: Found) -> list[str]:
    rows = []
    usual = ("8x8x128", "2x8x128", "32x8x128", "64x1x128", "1x64x128", "8x8x16-384")
    for case in found.cases("rollout", *usual):
        vllm, plain = (found.line("rollout", case, peer) for peer in ("vllm", "transformers"))
        speed = ("tokens_per_second",)
        ideal = found.line("roofline", f"decode {case}")
        rows.append(
            [
                case.replace("x", " × "),
                cell(vllm or plain, "covey", *speed),
                cell(vllm, "peer", *speed),
                cell(vllm, "ratio"),
                cell(plain, "peer", *speed),
                cell(plain, "ratio") + own(plain, vllm),
                cell(ideal, "fraction"),
                taken(vllm, plain),
            ]
        )
    head = (
        "problems × group × tokens",
        "Covey, tokens/s",
        "vLLM",
        "ratio",
        "`generate`",
        "ratio",
        "of the ideal",
        "taken by others",
    )
    return table("#### Sampling", head, rows)


def update(found: Found) -> list[str]:
    line = found.line("update", "16x8x16-128")
    names = ("seconds", "useful_gflop", "tflops", "fraction", "peak_gb")
    rows = [
        [
            *(cell(line, name) for name in names[:3]),
            cell(line, "gemm", "tflops"),
            *(cell(line, n) for n in names[3:]),
        ]
    ]
    head = ("seconds", "useful GFLOP", "TFLOP/s", "GEMM TFLOP/s", "share", "peak GB")
    return table("#### Update of 128 completions", head, rows)


def steps(found: Found) -> list[str]:
    rows = []
    for case in found.cases("step_vs_trl", "2x8x64", "16x8x64"):
        default, best = (found.line("step_vs_trl", case, f"trl 1.16.0 {how}") for how in ("as it", "at its"))
        rows.append(
            [
                case.replace("x", " × "),
                cell(default or best, "covey", "seconds"),
                cell(default, "peer", "seconds"),
                cell(default, "ratio"),
                cell(best, "peer", "seconds"),
                cell(best, "ratio"),
                " · ".join(
                    cell(line, side, "peak_gb")
                    for line, side in ((default or best, "covey"), (default, "peer"), (best, "peer"))
                ),
            ]
        )
    head = (
        "problems × group × tokens",
        "Covey, s",
        "TRL as it comes",
        "ratio",
        "TRL at its fastest",
        "ratio",
        "peak GB of each",
    )
    return table("#### A step against TRL", head, rows)


def reward(found: Found) -> list[str]:
    lines = [line for line in found.lines if line["bench"] == "time_to_reward" and line["against"]]
    rows = [
        [
            line["against"],
            str(line["level"]),
            *(_times(line[side]) for side in ("covey", "peer")),
            cell(line, "ratio"),
            cell(line, "ratio_step"),
        ]
        for line in lines
    ]
    curves = [
        [
            line["against"],
            step,
            *(_interval(line[side][step]) for side in ("covey_curve", "peer_curve")),
            "yes" if line["overlap"][step] else "no",
        ]
        for line in lines
        for step in line["covey_curve"]
    ]
    head = ("against", "level", "Covey, s", "TRL, s", "ratio", "ratio of a step")
    curve = ("against", "after steps", "Covey", "TRL", "overlap")
    return [
        *table("#### Time to reward", head, rows),
        *table("Held-out greedy accuracy at equal steps:", curve, curves),
    ]


def _times(side: Any) -> str:
    return (
        cell({"s": side}, "s")
        if isinstance(side, dict)
        else ", ".join("never" if t is None else f"{t:g}" for t in side)
    )


def _interval(one: dict[str, float]) -> str:
    return f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def growth(found: Found) -> list[str]:
    names = (
        "rollout_seconds",
        "update_seconds",
        "rollout_peak_gb",
        "update_peak_gb",
        "step_seconds_by_tokens",
    )
    rows = [
        [sweep, *(cell(found.line("scaling", sweep), "slopes", name) for name in names)]
        for sweep in ("group_size", "reply", "prompt", "problems", "vocabulary")
    ]
    head = ("swept", "sampling", "update", "peak of sampling", "peak of update", "step by tokens")
    return table("#### Growth: the power of the swept size (1 linear, 0 flat)", head, rows)


def start(found: Found) -> list[str]:
    told = {
        "help": "`covey --help`",
        "warm": "to the first token, converted weights kept",
        "cold": "to the first token, GGUF converted anew",
    }
    rows = [[name, cell(found.line("startup", case), "seconds")] for case, name in told.items()]
    return table("#### Start", ("", "seconds"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("machine", help="whose tables: zen3, say")
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument(
        "--page", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "performance.md"
    )
    given = parser.parse_args()
    lines = [
        json.loads(line) for path in given.results for line in path.read_text("utf-8").splitlines() if line
    ]
    begin, end = marks(given.machine)
    before, found, rest = given.page.read_text("utf-8").partition(begin)
    if not found or end not in rest:
        raise SystemExit(
            f"{given.page} has no place for {given.machine}: put these lines there\n{begin}\n{end}"
        )
    after = rest.partition(end)[2]
    text = "\n".join([begin, "", *page(Found(lines)), end])
    given.page.write_text(before + text + after, encoding="utf-8")


if __name__ == "__main__":
    main()
