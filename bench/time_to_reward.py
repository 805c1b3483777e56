"""Seconds until a model has learned the demo's task, in Covey and in TRL 1.16.0.

    python bench/time_to_reward.py [--quick] [--level 0.6] [--mode best] [--steps 20] [--rounds 3]

SmolLM2-135M learns two-digit addition: 16 problems × 8 completions of at most 16 tokens a step, a constant
rate of 2e-5, AdamW, TRL's loss; the same problems in the same order on both sides. After every few steps
each side answers the same 128 held-out problems greedily; that time isn't counted, nor is loading. A run's
time is the sum of its steps up to the first measurement from which on accuracy stays at or above the level;
``ratio`` is of the medians over seeds, None when a run never got there, and knows a time to no less than
``--every`` steps; ``ratio_step`` is of one step. A line for each run has its curve, and one the two sides'
curves at equal steps over all seeds, with Wilson's 95 % intervals, so that equal learning can be judged
(``overlap``). TRL's mode ``best`` trains in ``--dtype``: the rounding of bf16 weights swallows small updates.
``fp32`` computes in fp32 throughout. A round is a seed; runs alternate.
"""

from __future__ import annotations

import statistics
from typing import Any

from harness.curves import overlap, seconds_until, stays_above, wilson
from harness.measure import Report, arguments, parsed, rounded, say, spread
from harness.versus import MODES, recipe, trl
from harness.workers import Worker


def main() -> None:
    parser = arguments(__doc__, rounds=3, quick=1)
    parser.add_argument("--level", type=float, default=0.6)
    parser.add_argument(
        "--mode", action="append", choices=list(MODES), help="TRL's; default and best when absent"
    )
    parser.add_argument("--steps", type=int, help="20, quick 4")
    parser.add_argument("--every", type=int, default=2, help="steps between measurements")
    parser.add_argument("--rate", type=float, default=2e-5, help="the learning rate")
    given = parsed(parser)
    report, modes = Report("time_to_reward", given), given.mode or ["default", "best"]
    steps = given.steps or (4 if given.quick else 20)
    heldout = 32 if given.quick else 128
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("covey", *modes)}
    for seed in range(given.rounds):
        work = {
            "reward": "number",
            "seed": seed,
            "problems_per_step": 4 if given.quick else 16,
            "group_size": 8,
            "max_new_tokens": 16,
            "learning_rate": given.rate,
            "dtype": given.dtype,
        }
        with Worker("prepare", {"model": "smollm2-135m"}, threads=given.threads) as prepare:
            # one step more than is taken: TRL measures after a step when the next one is due
            count = work["problems_per_step"] * (steps + 1)
            found = prepare.call("problems", count=count, seed=seed, heldout=heldout)
            folder = prepare.facts["folder"]
        sides = {
            "covey": lambda w=work, f=folder: covey_run(f, w, steps, given.every, heldout, given.threads)
        }
        for mode in modes:
            sides[mode] = lambda m=mode, w=work, f=folder, p=found: trl_run(
                f, m, w, p, steps, given.every, given.threads
            )
        for name, side in sides.items():
            say(f"seed {seed}: {name}")
            run = judged(side(), given.level)
            runs[name].append(run)
            told = {key: value for key, value in run.items() if key != "right"}
            report.line(case=f"{name}, seed {seed}", level=given.level, work=work, **told)
            each = run["seconds_per_step"]["median"]
            say(f"  {run['seconds_to_level']} s to {given.level}, {each} s a step")
    for mode in modes:
        report.line(**compared(mode, runs["covey"], runs[mode], given.level))


def covey_run(
    folder: str, work: dict[str, Any], steps: int, every: int, heldout: int, threads: int
) -> dict[str, Any]:
    ours = recipe(folder, work, steps=steps, eval={"problems": heldout, "samples": 1, "every": every})
    with Worker("covey_run", {"recipe": ours}, threads=threads) as worker:
        return worker.call("run") | {"versions": worker.facts["versions"]}


def trl_run(
    folder: str,
    mode: str,
    work: dict[str, Any],
    found: dict[str, Any],
    steps: int,
    every: int,
    threads: int,
) -> dict[str, Any]:
    with trl(folder, mode, found["rows"], work, threads) as worker:
        right = {"0": worker.call("evaluate", rows=found["heldout"])["right"]}
        taken = []
        for step in range(1, steps + 1):
            taken.append(worker.call("step"))
            if step % every == 0 or step == steps:
                right[str(step)] = worker.call("evaluate", rows=found["heldout"])["right"]
        return {
            "seconds": [t["seconds"] for t in taken],
            "rewards": [t["reward"] for t in taken],
            "right": right,
            "versions": worker.facts["versions"],
        }


def judged(run: dict[str, Any], level: float) -> dict[str, Any]:
    """A run's figures, with its curve in place of its answers."""
    curve = {int(step): wilson(right) for step, right in run["right"].items()}
    step = stays_above({s: one["mean"] for s, one in curve.items()}, level)
    return {
        "steps_to_level": step,
        "seconds_to_level": None if step is None else rounded(seconds_until(step, run["seconds"])),
        "seconds_per_step": spread(run["seconds"]),
        "curve": curve,
        "rewards": [round(r, 4) for r in run["rewards"]],
        "right": {int(s): answers for s, answers in run["right"].items()},
        "versions": run["versions"],
    }


def compared(
    mode: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]], level: float
) -> dict[str, Any]:
    """Medians over seeds, and both curves over all seeds' answers."""
    times = [[run["seconds_to_level"] for run in runs] for runs in (ours, theirs)]
    reached = all(t is not None for side in times for t in side)
    curves = [
        {step: wilson([x for run in runs for x in run["right"][step]]) for step in runs[0]["right"]}
        for runs in (ours, theirs)
    ]
    medians = [
        statistics.median(run["seconds_per_step"]["median"] for run in runs) for runs in (ours, theirs)
    ]
    return {
        "against": MODES[mode],
        "ratio": rounded(statistics.median(times[1]) / statistics.median(times[0])) if reached else None,
        "ratio_step": rounded(medians[1] / medians[0]),
        "case": f"{len(ours)} seeds",
        "level": level,
        "covey": spread(times[0]) if reached else times[0],
        "peer": spread(times[1]) if reached else times[1],
        "covey_curve": curves[0],
        "peer_curve": curves[1],
        "overlap": {step: overlap(curves[0][step], curves[1][step]) for step in curves[0]},
    }


if __name__ == "__main__":
    main()
