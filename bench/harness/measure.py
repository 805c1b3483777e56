"""Figures and how they are told: medians with their range, ratios, the machine; one JSON line each."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.others import Others

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "asimd", "bf16", "i8mm")
T = TypeVar("T")


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """``median``, ``min``, ``max`` and ``n`` of repeated measurements, to four digits."""
    if not values:
        raise ValueError("no measurement to speak of")
    return {
        "median": rounded(statistics.median(values)),
        "min": rounded(min(values)),
        "max": rounded(max(values)),
        "n": len(values),
    }


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def speedup(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """How many times faster we did the same work, from seconds: above 1 we are faster.

    ``ratio`` is of the medians; ``ratio_by_round`` pairs what was measured side by side.
    """
    by_round = [rounded(b / a) for a, b in zip(ours, theirs, strict=True)]
    return {
        "ratio": rounded(statistics.median(theirs) / statistics.median(ours)),
        "ratio_by_round": by_round,
    }


def alternate(turns: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Each turn once a round, one after the other (A B C A B C …): what drifts hits all alike."""
    found: dict[str, list[T]] = {name: [] for name in turns}
    for number in range(rounds):
        for name, turn in turns.items():
            say(f"  round {number + 1}/{rounds}: {name}")
            found[name].append(turn())
    return found


def machine(threads: int) -> dict[str, Any]:
    """The processor, what it can do, and how busy it was when asked."""
    fields, has = processor(), flags()
    kibibytes = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": fields.get("model name", "unknown"),
        "family": f"{fields.get('cpu family', '?')}/{fields.get('model', '?')}",
        "cores": cores(),
        "threads": threads,
        "flags": [flag for flag in FLAGS if flag in has],
        "memory_gb": round(kibibytes / 2**20, 1),
        "load": round(os.getloadavg()[0], 2),
    }


def processor() -> dict[str, str]:
    """What the system tells of its first core."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def flags() -> set[str]:
    """The instructions that the processor has."""
    fields = processor()
    return set(fields.get("flags", fields.get("Features", "")).split())


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))


def arguments(doc: str | None, *, rounds: int, quick: int) -> argparse.ArgumentParser:
    """The options that every benchmark has. ``rounds`` and ``quick`` are how often each side is measured."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases, under 5 minutes")
    parser.add_argument("--rounds", type=int, help=f"times each side is measured: {rounds}, quick {quick}")
    parser.add_argument("--threads", type=int, default=cores(), help="CPU threads of each side: all cores")
    parser.add_argument(
        "--dtype",
        choices=["bfloat16", "float32"],
        help="of both sides; what this processor multiplies faster",
    )
    parser.set_defaults(usual=(quick, rounds))
    return parser


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    given = parser.parse_args(argv)
    if given.rounds is None:
        quick, usual = given.usual
        given.rounds = quick if given.quick else usual
    given.dtype = given.dtype or ("bfloat16" if {"avx512_bf16", "amx_bf16"} & flags() else "float32")
    del given.usual
    return given


class Report:
    """Prints what a benchmark found: a JSON object a line, with all that a reader needs to judge it."""

    def __init__(self, bench: str, given: argparse.Namespace) -> None:
        self.bench, self.quick, self.dtype = bench, given.quick, given.dtype
        self.machine = machine(given.threads)
        self._others = Others()

    def line(self, **found: Any) -> None:
        """``against`` and ``ratio`` are None where there is no peer to compare with. ``others`` is the share
        of the machine that other programs used meanwhile: figures from a busy one are worth little.
        """
        others = self._others.share()
        if others > 0.05:
            say(f"  other programs used {others:.0%} of this machine: measure again when it is quiet")
        told = {"bench": self.bench, "against": None, "ratio": None, **found}
        told |= {
            "quick": self.quick,
            "dtype": self.dtype,
            "others": others,
            "machine": self.machine,
            "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        print(json.dumps(told), flush=True)


def say(text: str) -> None:
    """For people: to stderr, so that stdout holds JSON lines only."""
    print(text, file=sys.stderr, flush=True)
