"""What this machine can do, and how much of it Covey's decoding and update use.

    python bench/roofline.py [--quick]

Lines ``gemm`` (bf16 and fp32: the best rate over several shapes, by plain `torch` or by oneDNN with
prepacked weights), ``memory`` (bytes read or copied a second), ``decode`` (Covey's tokens/s as a fraction
of the ideal) and ``update`` (useful FLOPs as a fraction of the rate in its dtype; see bench/update.py).

The ideal of a decode step: each matrix product at the rate measured for its very shape, and the keys and
values of all sequences read once at the read bandwidth, without any overlap; sampling, norms and
attention's arithmetic cost nothing in it. ``ideal_shared`` reads a group's prompt once for all its
sequences, which asks for more.
"""

from __future__ import annotations

import statistics

from harness.flops import Shape, decode_seconds
from harness.measure import Report, arguments, parsed, rounded, say, spread
from harness.roofline import decode_rates, peak
from harness.update import fraction, work
from harness.work import Case
from harness.workers import Worker

SIZES = {"bfloat16": 2, "float32": 4}  # bytes


def main() -> None:
    given = parsed(arguments(__doc__, rounds=5, quick=2))
    report = Report("roofline", given)
    with Worker("prepare", {"model": "smollm2-135m"}, threads=given.threads) as prepare:
        found = prepare.call("problems", count=32)
        folder, shape = prepare.facts["folder"], Shape.of(prepare.facts["config"])
    prompts = [row["prompt_ids"] for row in found["rows"]]
    with (
        Worker("rates", threads=given.threads) as rates,
        Worker("covey_parts", {"model": folder, "dtype": given.dtype}, threads=given.threads) as covey,
    ):
        versions = covey.facts["versions"]
        peaks = {name: peak(rates, name, quick=given.quick) for name in ("bfloat16", "float32")}
        for name, one in peaks.items():
            report.line(case=f"gemm {name}", **one.told(), versions=versions)
        best = peaks[given.dtype]
        memory = rates.call("bandwidth")
        report.line(case="memory", gb_per_second={k: rounded(v / 1e9) for k, v in memory.items()})
        reply = 32 if given.quick else 128
        cases = [Case.even(p, 8, reply) for p in ((2, 8) if given.quick else (2, 8, 32))]
        for case in cases:
            say(case.name)
            covey.call("rollout", groups=Case.even(case.problems, 8, 4).groups(prompts))
            groups = case.groups(prompts)
            seconds = [covey.call("rollout", groups=groups)["seconds"] for _ in range(given.rounds)]
            # at the middle of the replies: a mean over the steps
            prompt = statistics.mean(map(len, prompts[: case.problems]))
            batch, context = len(case.lengths), prompt + reply / 2
            at = decode_rates(rates, shape, batch, given.dtype)
            once = context - prompt * (1 - 1 / case.group_size)
            ideal, shared = (
                batch / decode_seconds(shape, at, memory["read"], batch, length, SIZES[given.dtype])
                for length in (context, once)
            )
            speeds = [case.tokens / s for s in seconds]
            report.line(
                case=f"decode {case.name}",
                tokens_per_second=spread(speeds),
                ideal=rounded(ideal),
                ideal_shared=rounded(shared),
                fraction=rounded(statistics.median(speeds) / ideal),
                fraction_shared=rounded(statistics.median(speeds) / shared),
                gemm_tflops={name: rounded(rate / 1e12) for name, rate in at.items()},
                versions=versions,
            )
        case = work(quick=given.quick)
        covey.call("rollout", groups=case.groups(prompts))
        answers = [covey.call("update") for _ in range(given.rounds + 1)][1:]
        told = fraction(case, prompts, found["stem"], shape, answers, best.rate)
        report.line(case=f"update {case.name}", **told, versions=versions)


if __name__ == "__main__":
    main()
