"""A verifiers task's own score, computed in the Python where verifiers is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from covey.rewards.elsewhere import Elsewhere, Lost
from covey.rewards.functions import Failure
from covey.rewards.pool import START_SECONDS, Limits
from covey.types import CoveyError, Episode, Problem, Score, StopReason

SCRIPT = Path(__file__).with_name("verifiers_host.py")


@dataclass
class Verifiers:
    """What the ``@vf.reward`` functions of a problem's task give its reply: the sum of score times weight.

    Its parts are the rewards' scores, unweighted, and the task's metrics, by their names. ``python`` is the
    interpreter in which verifiers (0.4, its v1 interface) and the ``taskset`` are installed, and ``settings``
    are the taskset's own: all three as the task has them. A reward that raises, or isn't finite, leaves the
    reply without a score.
    """

    outside: ClassVar[str] = "runs a taskset's code in another Python"
    pooled: ClassVar[bool] = True
    each: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(seconds=30.0)

    taskset: str
    python: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    _host: Elsewhere | None = field(default=None, init=False, repr=False)
    _bounded: bool = field(default=False, init=False, repr=False)

    def prepare(self) -> None:
        """Load the taskset. Raises as `started`."""
        self._host, self._bounded = started(self.python, self.taskset, self.settings)[0], False

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [self._score(episode) for episode in episodes]

    def check(self, problem: Problem) -> None:
        """Raise CoveyError for a problem of another task."""
        columns = problem.columns
        if "vf_data" not in columns or columns.get("vf_taskset") != [self.taskset, dict(self.settings)]:
            raise CoveyError(
                "[reward] verifiers scores problems of the task verifiers with the same taskset "
                f"and settings: {self.taskset} {dict(self.settings)}; "
                f"{problem.id!r} is of {columns.get('vf_taskset')}"
            )

    def _score(self, episode: Episode) -> Score:
        if len(episode.turns) != 1:
            return Score(None, error="verifiers scores one reply, and not a conversation")
        columns = episode.problem.columns
        order = {
            "data": columns["vf_data"],
            "prompt": columns["vf_prompt"],
            "reply": episode.text,
            "truncated": episode.stop is StopReason.LENGTH,
        }
        try:
            answer = self._ask(order)
        except Lost as lost:
            self._host = None
            return Failure(f"{self.taskset} in {self.python}: {lost}", lost.kind, lost.trace).score
        if "memory" in answer:
            return Failure(f"{self.taskset} needs more memory than limits.memory_mb", "memory").score
        if "raised" in answer:
            reason = f"{self.taskset} raised {answer['raised']}"[:500]
            return Failure(reason, "raised", answer["trace"]).score
        return summed(self.taskset, answer)

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if self._host is None:
            self.prepare()
        assert self._host is not None
        if not self._bounded:  # this process has its limit by now, which it hadn't when it made ready
            self._host.bound()
            self._bounded = True
        return self._host.ask(order)


def summed(name: str, answer: Mapping[str, Any]) -> Score:
    """The weighted sum of a task's rewards, with its parts."""
    parts: dict[str, float | None] = {n: _finite(value) for n, value in answer["metrics"].items()}
    total = 0.0
    for reward, given in answer["rewards"].items():
        parts[reward] = None if given is None else _finite(given[0])
        if given is None:
            return Failure(f"{name}: its reward {reward} gave no score", "none").score
        total += given[0] * given[1]
        if not math.isfinite(total):
            reason = f"{name}: its reward {reward} gave {given[0]}, weight {given[1]}"
            return Failure(reason, "not finite").score
    if not answer["rewards"]:
        return Failure(f"{name}: no reward gave a score", "none").score
    return Score(total, parts)


def started(python: str, taskset: str, settings: Mapping[str, Any]) -> tuple[Elsewhere, dict[str, Any]]:
    """A taskset loaded in another Python, and what it says of itself.

    Raises:
        CoveyError: it can't be loaded or used there, or there is no such interpreter.
        Lost: the interpreter ended, or took longer than two minutes.
    """
    host = Elsewhere(python, SCRIPT)
    hello = host.ask({"taskset": taskset, "settings": dict(settings)}, START_SECONDS)
    if "refused" in hello:
        host.close()
        raise CoveyError(f"verifiers: {taskset} can't be used: {hello['refused']} (loaded by {python})")
    return host, hello["ready"]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
