"""One optimizer update of Covey at 128 completions, against the machine's GEMM rate.

    python bench/update.py [--quick] [--memory-gb 2]

SmolLM2-135M, 16 prompts of about 46 tokens × 8 replies of 16 to 128 tokens, in bf16 with fp32 masters, or
in fp32 (``--dtype``); from scored groups to rounded weights: packing, forward, backward, AdamW.
``fraction`` counts useful FLOPs only, each once, as bench/harness/flops.py writes them down;
recomputation is not useful. The GEMM rate is the best over several shapes, measured before and after the
updates in a process of its own. ``load_seconds`` is what the engine takes to follow the new weights.
"""

from __future__ import annotations

from harness.flops import Shape
from harness.measure import Report, arguments, parsed, rounded, say
from harness.roofline import peak
from harness.update import fraction, work
from harness.workers import Worker


def main() -> None:
    parser = arguments(__doc__, rounds=7, quick=2)
    parser.add_argument("--memory-gb", type=float, default=1.0, help="the recipe's train.memory_gb")
    given = parsed(parser)
    report, case = Report("update", given), work(quick=given.quick)
    with Worker("prepare", {"model": "smollm2-135m"}, threads=given.threads) as prepare:
        found = prepare.call("problems", count=case.problems)
        folder, shape = prepare.facts["folder"], Shape.of(prepare.facts["config"])
    prompts = [row["prompt_ids"] for row in found["rows"]]
    settings = {"model": folder, "dtype": given.dtype, "memory_gb": given.memory_gb}
    with (
        Worker("rates", threads=given.threads) as rates,
        Worker("covey_parts", settings, threads=given.threads) as covey,
    ):
        say("sampling the replies")
        covey.call("rollout", groups=case.groups(prompts))
        before = peak(rates, given.dtype, quick=given.quick)
        answers = []
        for number in range(given.rounds + 1):  # the first is the warm-up
            answers.append(covey.call("update"))
            say(f"  update {number}/{given.rounds}: {answers[-1]['seconds']:.2f} s")
        after = peak(rates, given.dtype, quick=given.quick)
        best = max(before, after, key=lambda p: p.rate)
        report.line(
            case=case.name,
            against=f"measured {given.dtype} GEMM rate",
            ratio=(told := fraction(case, prompts, found["stem"], shape, answers[1:], best.rate))["fraction"],
            **told,
            stem_tokens=found["stem"],
            memory_gb=given.memory_gb,
            gemm=best.told() | {"before": rounded(before.rate / 1e12), "after": rounded(after.rate / 1e12)},
            versions=covey.facts["versions"],
        )


if __name__ == "__main__":
    main()
