"""What could not be graded stays the exception."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Score

SETTLED = 10
"""Steps from which on the share over the run is held against its budget: before, a few are a large share."""


@dataclass(kw_only=True)
class Unscored(Sentinel):
    """Holds the share of completions without a score against a ``budget`` in each step, and against
    ``run_budget`` over the run. Within both, it tells of those whose grader has failed."""

    name: ClassVar[str] = "unscored"
    level: ClassVar[Level] = "stop"

    budget: float = 0.2
    run_budget: float = 0.1
    missing: int = field(init=False, default=0)
    completions: int = field(init=False, default=0)

    def sampled(self, step: int, groups: Sequence[Group]) -> Finding | None:
        scores = [s for g in groups for s in g.scores]
        unscored = [s for s in scores if s.value is None]
        if not unscored:
            return None
        here, total = len(unscored), len(scores)
        before, all_of_them = self.missing + here, self.completions + total
        what = f"{here} of {total} completions have no score"
        level: Level | None = None
        if here > self.budget * total:
            what += f", more than the budget of {self.budget:.0%}"
        elif step + 1 >= SETTLED and before > self.run_budget * all_of_them:
            what = (
                f"{before} of the run's {all_of_them} completions have no score, more than its budget of "
                f"{self.run_budget:.0%}"
            )
        elif any(s.fault is not None and s.fault.kind != "none" for s in unscored):
            level = "warn"
        else:
            return None
        return Finding(
            what,
            _evidence(unscored),
            "the grader fails, hangs until its time limit, or can't be reached; what is left to train on is "
            "a sample biased towards answers it can grade",
            "run the grader by hand on a recorded completion; if it needs longer or more memory, raise the "
            "reward's limits; if it rightly has no verdict on so many, raise [sentinels] unscored = "
            "{ budget = …, run_budget = … }",
            level,
        )

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        self.missing += int(metrics.get("unscored", 0))
        self.completions += int(metrics.get("episodes", 0))


def _evidence(unscored: Sequence[Score]) -> str:
    """How many of each kind, the most frequent errors, and the first traceback of each kind."""
    kinds = Counter(s.fault.kind for s in unscored if s.fault)
    errors = Counter(s.error or "no reason given" for s in unscored)
    told = "; ".join(f"{count} × {error[:160]!r}" for error, count in errors.most_common(3))
    if kinds:
        told = f"{', '.join(f'{kind} {count}' for kind, count in kinds.most_common())}: {told}"
    traces = {s.fault.kind: s.fault.trace for s in reversed(unscored) if s.fault and s.fault.trace}
    return told + "".join(f"\n    first {kind}:\n{_indented(trace)}" for kind, trace in traces.items())


def _indented(trace: str) -> str:
    return "\n".join(f"      {line}" for line in trace.rstrip().splitlines())
