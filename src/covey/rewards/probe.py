"""Does a reward reward what it should, the same twice, and in what time?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from covey.protocols import Interactive, Reward
from covey.rewards.combine import Combine
from covey.rewards.replies import Reply, degenerate, gold
from covey.types import Completion, CoveyError, Ending, Episode, Problem, Score, StopReason, Turn

MOST_FORMS = 3
"""Of the forms in which gold is accepted, how many degenerate replies are tried in, beside none."""


@dataclass(frozen=True)
class Played:
    """Conversations in place of single replies: a reply is given at each of at most ``turns`` turns."""

    task: Interactive
    turns: int

    def __call__(self, problem: Problem, sample: int, text: str) -> Episode:
        turns: list[Turn] = []
        ended = Ending.TURNS
        try:
            environment = self.task.environment(problem, sample)
            environment.first()
            while len(turns) < self.turns:
                turns.append(_turn(text))
                if environment.step({"role": "assistant", "content": text}) is None:
                    ended = Ending.DONE
                    break
        except CoveyError:
            raise
        except Exception as error:  # an environment is the user's code, as the reward is
            failed = f"the environment failed: {type(error).__name__}: {error}"
            return Episode(problem, sample, tuple(turns), Ending.ENVIRONMENT, failed)
        return Episode(problem, sample, tuple(turns), ended)


@dataclass(frozen=True)
class Finding:
    """A reply, how it was graded, and what is to be said of that."""

    what: str
    problem: str
    kind: str
    reply: str
    text: str
    value: float | None

    def line(self) -> str:
        value = "not scored" if self.value is None else f"{self.value:g}"
        text = self.text if len(self.text) <= 60 else f"{self.text[:60]}…"
        return f"{self.what}: {self.reply}, {value}, on problem {self.problem!r}: {text!r}"

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {"text": self.text[:1000]}


@dataclass(frozen=True)
class Findings:
    """What came of trying a reward.

    ``accepted`` is, by form, the share of problems whose gold answer gets full marks in it. ``shaping``: it
    doesn't look at whether an answer is right, so nothing was held against it that a wrong one earns.
    ``partial``: it gives credit for a part of an answer, so degenerate replies may earn some, and ``most`` is
    the one that earned most, if any did. ``unscored`` counts degenerate replies without a score, by the
    reason given. ``milliseconds`` are of single calls, without the first.
    """

    problems: int
    replies: int
    full: float
    shaping: bool
    partial: bool
    most: Finding | None
    accepted: dict[str, float]
    faults: tuple[Finding, ...]
    unscored: dict[str, int]
    milliseconds: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": not self.faults,
            "problems": self.problems,
            "replies": self.replies,
            "full_marks": self.full,
            "shaping": self.shaping,
            "partial": self.partial,
            "most": self.most.as_json() if self.most else None,
            "accepted": self.accepted,
            "faults": [fault.as_json() for fault in self.faults],
            "unscored": self.unscored,
            "milliseconds": self.milliseconds,
        }


def probe(
    reward: Reward,
    problems: Sequence[Problem],
    full: float | None = None,
    *,
    partial: bool = False,
    played: Played | None = None,
) -> Findings:
    """Try a reward on problems, one reply a call and each twice; ``played`` where they are conversations.

    Full marks are what the best gold reply gets, unless ``full`` says; every problem's gold answer must get
    them in one form at least, and no degenerate reply half of them. A reward that gives ``partial``
    credit, as it says of itself or is said here, does so on purpose: there a degenerate reply fails at full
    marks, and what the best one earned is told. Of a combined reward, what is added for form, length or
    language is left out of all that: it is earned by wrong answers, too, and rightly.

    Raises:
        CoveyError: there are no problems, or one without a gold answer.
    """
    if not problems:
        raise CoveyError("there are no problems to try the reward on")
    shaping = bool(getattr(reward, "shaping", False))
    if isinstance(reward, Combine):
        shaping = reward.grading is None
        reward = reward.grading or reward
    partial = not shaping and (partial or bool(getattr(reward, "partial", False)))
    trial = _Trial(reward, played or _single)
    golds = [trial.grade(problem, gold(problem)) for problem in problems]
    if full is None:
        full = max((s.value for scores in golds for _, s in scores if s.value is not None), default=0.0)
    if full <= 0 and not shaping:
        for problem, scores in zip(problems, golds, strict=True):
            trial.fault("no gold reply earns anything", problem, *scores[0])
        return trial.findings(problems, full, golds, shaping=shaping, partial=partial)
    for problem, scores in zip(problems, golds, strict=True):
        if not any(_reaches(score, full) for _, score in scores):
            trial.fault("the gold answer doesn't get full marks", problem, *_best(scores))
    for problem, scores in zip(problems, golds, strict=True):
        trial.together(problem, scores)
    forms = [form for form in _accepted(golds, full) if form != "bare"][:MOST_FORMS]
    answers = [problem.answer for problem in problems if problem.answer]
    for problem in problems:
        for reply, score in trial.grade(problem, degenerate(problem, answers, forms)):
            if score.value is None:
                trial.unscored[score.error or "no reason"] = (
                    trial.unscored.get(score.error or "no reason", 0) + 1
                )
            elif not shaping:
                trial.earned(problem, reply, score.value, full if partial else full / 2)
    return trial.findings(problems, full, golds, shaping=shaping, partial=partial)


class _Trial:
    """A reward being tried: grades, and keeps what it sees."""

    def __init__(self, reward: Reward, episode: Callable[[Problem, int, str], Episode]) -> None:
        self.reward, self.episode = reward, episode
        self.tried = 0
        self.seconds: list[float] = []
        self.faults: list[Finding] = []
        self.unscored: dict[str, int] = {}
        self.most: Finding | None = None

    def grade(self, problem: Problem, replies: Sequence[Reply]) -> list[tuple[Reply, Score]]:
        """Each reply's score, after it was seen to be the same twice."""
        if not replies:
            raise CoveyError(f"problem {problem.id!r} has no gold answer and no column good: nothing to try")
        graded: list[tuple[Reply, Score]] = []
        for reply in replies:
            self.tried += 1
            first, second = self._score(problem, reply), self._score(problem, reply)
            graded.append((reply, first))
            if first != second:
                self.fault("graded differently the second time", problem, reply, second)
        return graded

    def together(self, problem: Problem, graded: Sequence[tuple[Reply, Score]]) -> None:
        """See that replies which have a score each have one in one call, too: so a run asks for them."""
        beside = self._called(problem, [reply for reply, _ in graded])
        for (reply, alone), score in zip(graded, beside, strict=True):
            if alone.value is not None and score.value is None:
                self.fault("not scored in one call with other replies", problem, reply, score)

    def earned(self, problem: Problem, reply: Reply, value: float, limit: float) -> None:
        """A degenerate reply was graded: it fails from ``limit`` on."""
        if value > (self.most.value or 0.0 if self.most else 0.0):
            self.most = _finding("the best degenerate reply", problem, reply, Score(value))
        if value >= limit - 1e-9:
            self.fault("a degenerate reply is rewarded", problem, reply, Score(value))

    def fault(self, what: str, problem: Problem, reply: Reply, score: Score) -> None:
        why = f" ({score.error})" if score.error else ""
        self.faults.append(_finding(what + why, problem, reply, score))

    def _score(self, problem: Problem, reply: Reply) -> Score:
        [score] = self._called(problem, [reply])
        return score

    def _called(self, problem: Problem, replies: Sequence[Reply]) -> Sequence[Score]:
        episodes = [self.episode(problem, n, reply.text) for n, reply in enumerate(replies)]
        if failed := next((episode.error for episode in episodes if episode.error), None):
            return [Score(None, error=failed)] * len(
                replies
            )  # as in a run, which doesn't ask the reward then
        start = time.perf_counter()
        try:
            scores = self.reward(episodes)
        except Exception as error:  # foreign code: in a run this would end it, here it is a finding
            raised = Score(None, error=f"it raised {type(error).__name__}: {error}")
            for reply in replies:
                self.fault("the reward raised", problem, reply, raised)
            return [raised] * len(replies)
        if len(episodes) == 1:
            self.seconds.append(time.perf_counter() - start)
        if len(scores) != len(episodes):
            raise CoveyError(f"the reward returned {len(scores)} scores for {len(episodes)} completions")
        return scores

    def findings(
        self,
        problems: Sequence[Problem],
        full: float,
        golds: Sequence[Sequence[tuple[Reply, Score]]],
        *,
        shaping: bool,
        partial: bool,
    ) -> Findings:
        # a first call may start processes and import libraries; where nothing could be asked there is none
        ordered = sorted(self.seconds[1:]) or [0.0]
        times = {"p50": _at(ordered, 0.5), "p95": _at(ordered, 0.95), "max": ordered[-1]}
        return Findings(
            problems=len(problems),
            replies=self.tried,
            full=full,
            shaping=shaping,
            partial=partial,
            most=self.most,
            accepted=_accepted(golds, full),
            faults=tuple(self.faults),
            unscored=dict(sorted(self.unscored.items(), key=lambda item: -item[1])),
            milliseconds={name: round(1000 * seconds, 3) for name, seconds in times.items()},
        )


def _finding(what: str, problem: Problem, reply: Reply, score: Score) -> Finding:
    return Finding(what, problem.id, reply.kind, reply.name, reply.text, score.value)


def _single(problem: Problem, sample: int, text: str) -> Episode:
    return Episode(problem, sample, (_turn(text),))


def _turn(text: str) -> Turn:
    return Turn((), Completion((), None, StopReason.END, 0, text))


def _accepted(golds: Sequence[Sequence[tuple[Reply, Score]]], full: float) -> dict[str, float]:
    """Form → share of the problems that have it whose gold answer gets full marks in it; the best first."""
    count: dict[str, list[bool]] = {}
    for scores in golds:
        for reply, score in scores:
            count.setdefault(reply.form, []).append(_reaches(score, full))
    shares = {form: sum(reached) / len(reached) for form, reached in count.items() if any(reached)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _reaches(score: Score, full: float) -> bool:
    return score.value is not None and score.value >= full - 1e-9


def _best(scores: Sequence[tuple[Reply, Score]]) -> tuple[Reply, Score]:
    return max(scores, key=lambda pair: -math.inf if pair[1].value is None else pair[1].value)


def _at(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so large a share doesn't exceed."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
