"""The update that is measured, and how much of the machine it uses."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from harness.flops import Shape, update_flops
from harness.measure import rounded, spread
from harness.work import Case, ragged


def work(*, quick: bool = False) -> Case:
    """16 prompts × 8 replies of 16 to 128 tokens (quick: 4 prompts)."""
    problems = 4 if quick else 16
    return Case(f"{problems}x8x16-128", problems, 8, tuple(ragged(problems * 8, 16, 128)))


def fraction(
    case: Case,
    prompts: Sequence[Sequence[int]],
    stem: int,
    shape: Shape,
    answers: Sequence[dict[str, Any]],
    rate: float,
) -> dict[str, Any]:
    """Figures of repeated updates; ``fraction`` is useful FLOPs a second in terms of ``rate``."""
    groups = [(len(g["prompt_ids"]), g["lengths"]) for g in case.groups(prompts)]
    useful = update_flops(shape, groups, stem)
    seconds = [a["seconds"] for a in answers]
    reached = useful / statistics.median(seconds)
    return {
        "seconds": spread(seconds),
        "load_seconds": spread([a["load_seconds"] for a in answers]),
        "completions": len(case.lengths),
        "chosen_tokens": case.tokens,
        "micro_batches": answers[-1]["micro_batches"],
        "useful_gflop": rounded(useful / 1e9),
        "tflops": rounded(reached / 1e12),
        "fraction": rounded(reached / rate),
        "peak_gb": max(a["peak_gb"] for a in answers),
    }
