"""A reward whose grading goes on in processes of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from covey.protocols import Reward
from covey.rewards import wire
from covey.rewards.functions import Failure
from covey.rewards.pool import Broken, Limits, Pool
from covey.types import CoveyError, Episode, Problem, Score

CHECK = 64  # problems of one call, when all are looked at before a run
CHECK_SECONDS = 60.0

Answer = Future[dict[str, Any]]


class Pooled:
    """Another reward, called in a `Pool` under limits.

    A reward that has ``each`` grades every episode by itself, and gets a call for each; any other gets a
    problem's episodes in one call, since it may compare them. What a call doesn't answer in time, within
    its memory, or at all, isn't scored and says why.

    reward: the same reward here, of which only what it says about itself is used. target: the name it is
    imported by, and params what it is made with. limits: of each call.
    """

    def __init__(
        self, reward: Reward, name: str, target: str, params: Mapping[str, Any], limits: Limits
    ) -> None:
        self.reward, self.name, self.limits = reward, name, limits
        self.pool = Pool({"name": name, "target": target, "params": dict(params)}, limits)

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return self.submit(episodes)()

    def submit(self, episodes: Sequence[Episode]) -> Callable[[], list[Score]]:
        """Have them graded from now on; the scores are waited for when they are asked for."""
        calls = [[episode] for episode in episodes] if getattr(self.reward, "each", False) else [episodes]
        waiting = [(len(call), self.pool.submit(wire.episodes_to_json(call))) for call in calls if call]
        return lambda: [score for count, answer in waiting for score in self._scores(count, answer)]

    def check(self, problem: Problem) -> None:
        """Raise CoveyError when the reward can't grade such a problem."""
        if callable(check := getattr(self.reward, "check", None)) and not self.checks_all:
            check(problem)

    def check_all(self, problems: Sequence[Problem]) -> None:
        """Raise CoveyError for the first problem that can't be graded. A reward that looks at all of them
        does so in the pool: reading a gold answer may take for ever, too."""
        if not self.checks_all:
            return self.check(problems[0]) if problems else None
        rows = [wire.problem_to_json(problem) for problem in problems]
        parts = [rows[i : i + CHECK] for i in range(0, len(rows), CHECK)]
        for answer in [self.pool.submit({"check": part}, CHECK_SECONDS) for part in parts]:
            try:
                refused = answer.result()["refused"]
            except Broken as broken:
                refused = f"[reward] {self.name!r} can't read the task's gold answers: {broken.detail}"
            if refused:
                self.close()
                raise CoveyError(refused)

    def close(self) -> None:
        """End the processes."""
        self.pool.close()

    @property
    def checks_all(self) -> bool:
        return bool(getattr(self.reward, "checks_all", False))

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(getattr(self.reward, "notes", ()))

    @property
    def shaping(self) -> bool:
        return bool(getattr(self.reward, "shaping", False))

    @property
    def partial(self) -> bool:
        return bool(getattr(self.reward, "partial", False))

    @property
    def gates(self) -> bool:
        return bool(getattr(self.reward, "gates", False))

    @property
    def full(self) -> float:
        return float(getattr(self.reward, "full", 1.0))

    def _scores(self, count: int, answer: Answer) -> list[Score]:
        try:
            scores = [wire.score_from_json(row) for row in answer.result()["scores"]]
        except Broken as broken:
            return [self._failed(broken)] * count
        except (KeyError, TypeError, ValueError) as error:
            trace = f"{type(error).__name__}: {error}"
            return [Failure(f"{self.name} gave scores that are none: {trace}", "type", trace).score] * count
        if len(scores) != count:
            reason = f"{self.name} returned {len(scores)} scores for {count} completions"
            return [Failure(reason, "length").score] * count
        return scores

    def _failed(self, broken: Broken) -> Score:
        reason = broken.detail if broken.kind == "start" else f"{self.name} {broken.detail}"
        return Failure(reason, broken.kind, broken.trace).score
