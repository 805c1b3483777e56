"""A whole training step: Covey and TRL 1.16.0 on the same model, prompts, group size, lengths and optimizer.

    python bench/step_vs_trl.py [--quick] [--mode best]

SmolLM2-135M on two-digit additions, at most 64 new tokens, AdamW, TRL's loss on both sides; 2 × 8 and
16 × 8 completions a step. Covey's step is all of `covey train`'s: sampling, grading, update, handing over
the weights, record and sentinels; TRL's is from the trainer's step begin to its step end. The reward is the
reply's length, so that no group is without a signal and both learn from every completion. TRL runs as it
comes on a CPU and in its fastest mode. Replies end when the model ends them, so the tokens differ a
little from step to step: ``ratio`` compares seconds a step, ``ratio_tokens`` seconds a token. The rounds
alternate; a system that waits is stopped. Peak memory is of the process during its steps (RSS, GB).
"""

from __future__ import annotations

import contextlib
import statistics
from typing import Any

from harness.measure import Report, alternate, arguments, parsed, rounded, say, speedup, spread
from harness.versus import MODES, recipe, trl
from harness.workers import Worker


def main() -> None:
    parser = arguments(__doc__, rounds=3, quick=2)
    parser.add_argument(
        "--mode", action="append", choices=list(MODES), help="TRL's; default and best when absent"
    )
    parser.add_argument("--problems", action="append", type=int, help="problems a step; 2 and 16 when absent")
    parser.add_argument("--tokens", type=int, help="new tokens at most: 64, quick 32")
    given = parsed(parser)
    report = Report("step_vs_trl", given)
    tokens = given.tokens or (32 if given.quick else 64)
    for problems in given.problems or ((2,) if given.quick else (2, 16)):
        work = {
            "reward": "characters",
            "seed": 0,
            "problems_per_step": problems,
            "group_size": 8,
            "max_new_tokens": tokens,
            "learning_rate": 1e-6,
            "dtype": given.dtype,
        }
        for line in measured(work, given.mode or ["default", "best"], given.rounds, given.threads):
            report.line(**line)


def measured(work: dict[str, Any], modes: list[str], rounds: int, threads: int) -> list[dict[str, Any]]:
    """One line for each of TRL's modes."""
    problems = work["problems_per_step"]
    say(f"{problems} problems × {work['group_size']} completions of at most {work['max_new_tokens']} tokens")
    with contextlib.ExitStack() as stack:
        with Worker("prepare", {"model": "smollm2-135m"}, threads=threads) as prepare:
            rows = prepare.call("problems", count=problems * (rounds + 2))["rows"]
            folder = prepare.facts["folder"]
        ours = {"recipe": recipe(folder, work)}
        systems = {"covey": stack.enter_context(Worker("covey_step", ours, threads=threads))}
        for mode in modes:
            systems[mode] = stack.enter_context(trl(folder, mode, rows, work, threads))
            systems[mode].call("step")  # the warm-up; Covey's was in its start
        found = alternate({name: lambda w=worker: w.call("step") for name, worker in systems.items()}, rounds)
        versions = {name: worker.facts["versions"] for name, worker in systems.items()}
    told = {name: figures(steps, problems * work["group_size"]) for name, steps in found.items()}
    for name, one in told.items():
        say(f"  {name}: {one['seconds']['median']} s a step, {one['peak_gb']} GB")
    seconds = {name: [s["seconds"] for s in steps] for name, steps in found.items()}
    each = {name: [s["seconds"] / s["tokens"] for s in steps] for name, steps in found.items()}
    # "other" has the time it was stopped in
    phases = {k: rounded(v) for k, v in found["covey"][-1]["phases"].items() if k != "other"}
    return [
        {
            "against": MODES[mode],
            **speedup(seconds["covey"], seconds[mode]),
            "ratio_tokens": speedup(each["covey"], each[mode])["ratio"],
            "ratio_peak": rounded(told["covey"]["peak_gb"] / told[mode]["peak_gb"]),
            "case": f"{problems}x{work['group_size']}x{work['max_new_tokens']}",
            "work": work,
            "covey": told["covey"] | {"last_phases": phases},
            "peer": told[mode],
            "versions": {"covey": versions["covey"], "trl": versions[mode]},
        }
        for mode in modes
    ]


def figures(steps: list[dict[str, Any]], completions: int) -> dict[str, Any]:
    seconds = [s["seconds"] for s in steps]
    return {
        "seconds": spread(seconds),
        "completions_per_second": rounded(completions / statistics.median(seconds)),
        "tokens_per_second": spread([s["tokens"] / s["seconds"] for s in steps]),
        "tokens": spread([s["tokens"] for s in steps]),
        "peak_gb": max(s["peak_gb"] for s in steps),
        **({"trained": spread([s["trained"] for s in steps])} if "trained" in steps[0] else {}),
    }


if __name__ == "__main__":
    main()
