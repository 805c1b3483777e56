"""What killing graders costs: math-verify through the pool of processes, beside plain calls of it.

    python bench/pool.py [--quick]

``throughput``: 10,000 completions of seven forms, graded in groups of 8 by the pool and by the reward in this
process, which is one call of math-verify after the other. ``ratio`` above 1: the pool is faster. Starting the
pool isn't in it. ``hostile``: answers that never end, among right ones; ``overrun`` is by how much the
slowest call exceeds its limit, in seconds from its send to its return, and ``lost`` counts right answers
that weren't given full marks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from covey.rewards.math import Math
from covey.rewards.pool import Limits
from covey.rewards.pooled import Pooled
from covey.types import Completion, Episode, Problem, Score, StopReason, Turn
from harness.channel import versions
from harness.hostile import HOSTILE
from harness.measure import Report, alternate, arguments, parsed, rounded, say, speedup, spread

GROUP = 8
FORMS = (
    r"First, add. So the answer is \boxed{%d}.",
    "Therefore it is $%d$.",
    "The answer is %d",
    r"We get $\frac{%d}{2}$ in the end.",
    r"Thus $x = %d$.",
    r"\[ \sqrt{%d} \]",
    "%d apples are left, I think. Let me check: yes.",
)


def main() -> None:
    given = parsed(arguments(__doc__, rounds=3, quick=1))
    report = Report("pool", given)
    found = versions("math-verify", "sympy")
    count = 800 if given.quick else 10_000
    groups = [group(n) for n in range(count // GROUP)]
    plain = Math()
    plain.prepare()
    reward = pool(given.threads, Math.limits.seconds)
    reward(groups[0])
    scores: dict[str, list[Score]] = {}

    def timed(name: str) -> float:
        began = time.perf_counter()
        if name == "pool":
            waiting = [reward.submit(episodes) for episodes in groups]
            scores[name] = [score for wait in waiting for score in wait()]
        else:
            scores[name] = [score for episodes in groups for score in plain(episodes)]
        return time.perf_counter() - began

    times = alternate({"pool": lambda: timed("pool"), "plain": lambda: timed("plain")}, given.rounds)
    reward.close()
    if scores["pool"] != scores["plain"]:
        raise SystemExit("the pool and the plain call give different scores")
    report.line(
        case="throughput",
        against="math-verify called in this process",
        completions=count,
        seconds=spread(times["pool"]),
        against_seconds=spread(times["plain"]),
        **speedup(times["pool"], times["plain"]),
        versions=found,
    )
    report.line(case="hostile", **hostile(given.threads, 100 if given.quick else 1000), versions=found)


def pool(workers: int, seconds: float) -> Pooled:
    limits = Limits(seconds=seconds, memory_mb=1024, workers=workers)
    return Pooled(Math(), "math", "covey.rewards.math:Math", {}, limits)


def group(number: int) -> list[Episode]:
    """A problem's replies, some right and some wrong."""
    problem = Problem(f"p{number}", ({"role": "user", "content": "How many?"},), str(number))
    return [
        episode(problem, sample, FORMS[(number + sample) % len(FORMS)] % (number + sample % 3))
        for sample in range(GROUP)
    ]


def episode(problem: Problem, sample: int, text: str) -> Episode:
    return Episode(problem, sample, (Turn((1,), Completion((2,), None, StopReason.END, 0, text)),))


def hostile(workers: int, right: int, seconds: float = 2.0) -> dict[str, float]:
    """Right answers with each hostile one twice among them."""
    problem = Problem("p", ({"role": "user", "content": "How many?"},), "42")
    texts = [r"so it is \boxed{42}"] * right
    for place, text in enumerate(HOSTILE * 2):
        texts.insert((place + 1) * right // (2 * len(HOSTILE)), text)
    reward = pool(workers, seconds)
    reward([episode(problem, 0, "42")])
    slowest = 0.0
    for text in HOSTILE:  # alone, so that the time of the call is the time until it has an answer
        time.sleep(2)  # both processes are ready again
        began = time.perf_counter()
        reward([episode(problem, 0, text)])
        slowest = max(slowest, time.perf_counter() - began)
        say(f"  {text[:40]}: {time.perf_counter() - began:.3f} s")
    scores: Sequence[Score] = reward([episode(problem, n, text) for n, text in enumerate(texts)])
    reward.close()
    lost = sum(s.value != 1.0 for s, text in zip(scores, texts, strict=True) if text not in HOSTILE)
    return {"limit": seconds, "overrun": rounded(slowest - seconds), "right": right, "lost": lost}


if __name__ == "__main__":
    main()
