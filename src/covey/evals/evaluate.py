"""Measures a policy on held-out problems: greedy and sampled completions, scored as in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

from covey.evals.intervals import clustered, paired, same_problems
from covey.protocols import Chat, Reward, Sampler, submitted
from covey.rollout.episode import Attempt, Talk, play
from covey.rollout.filters import ungraded
from covey.types import (
    Answer,
    CoveyError,
    DrawKey,
    Episode,
    Evaluation,
    Interval,
    Problem,
    Sampling,
    Score,
    StopReason,
)


@dataclass(frozen=True)
class Evaluator:
    """One greedy completion and ``samples`` drawn ones of each problem, when an evaluation is due.

    It is due before the first step, after every ``every`` steps (0: at none between) and after ``last``.

    Raises:
        CoveyError: there are no problems, or no samples asked for.
    """

    sampler: Sampler
    chat: Chat
    reward: Reward
    problems: Sequence[Problem]
    _: KW_ONLY
    samples: int
    max_new_tokens: int
    seed: int
    every: int
    last: int
    temperature: float = 1.0
    talk: Talk | None = None

    def __post_init__(self) -> None:
        if not self.problems:
            raise CoveyError("no held-out problems to evaluate on")
        if self.samples < 1:
            raise CoveyError(f"an evaluation samples each problem at least once, not {self.samples} times")

    def __call__(self, step: int) -> Evaluation | None:
        """Measure after ``step`` steps, or return None when that isn't due."""
        due = step in (0, self.last) or (self.every > 0 and step % self.every == 0)
        return self.measure(step) if due else None

    def measure(self, step: int) -> Evaluation:
        """Measure now."""
        return Evaluation(
            step=step,
            greedy=self._answers(step, Sampling(self.max_new_tokens, temperature=0.0), 1),
            sampled=self._answers(step, Sampling(self.max_new_tokens, self.temperature), self.samples),
        )

    def _answers(self, step: int, sampling: Sampling, samples: int) -> tuple[Answer, ...]:
        """``samples`` completions of each problem, asked for in one call with a problem's side by side."""
        attempts: list[Attempt] = []
        for problem in self.problems:
            prompt_ids = self.chat.prompt(problem.messages)
            for sample in range(samples):
                key = DrawKey(self.seed, step, problem.id, sample, purpose="eval")
                attempts.append(Attempt(problem, prompt_ids, key))
        played = dict(play(attempts, self.sampler, self.chat, sampling, self.talk))
        waiting: list[Callable[[], Answer]] = []
        for at, problem in enumerate(self.problems):
            episodes = [played[at * samples + sample] for sample in range(samples)]
            finished = [episode for episode in episodes if episode.failure is None]
            scores = submitted(self.reward, finished) if finished else list[Score]
            waiting.append(partial(self._graded, problem, episodes, finished, scores))
        return tuple(answer() for answer in waiting)

    def _graded(
        self,
        problem: Problem,
        episodes: Sequence[Episode],
        finished: Sequence[Episode],
        wanted: Callable[[], Sequence[Score]],
    ) -> Answer:
        """One problem's episodes with their scores; one that failed is not scored."""
        scores = {episode.sample: ungraded(episode) for episode in episodes}
        if finished:
            graded = wanted()
            if len(graded) != len(finished):
                raise CoveyError(
                    f"the reward returned {len(graded)} scores for {len(finished)} completions of problem "
                    f"{problem.id!r}; it must return one for each, in order"
                )
            scores.update({episode.sample: score for episode, score in zip(finished, graded, strict=True)})
        return Answer(
            problem_id=problem.id,
            scores=tuple(scores.values()),
            texts=tuple(episode.text for episode in episodes),
            token_ids=tuple(episode.turns[-1].completion.token_ids for episode in episodes),
            stops=tuple(episode.stop for episode in episodes),
            earlier=tuple(tuple(t.completion.token_ids for t in e.turns[:-1]) for e in episodes)
            if self.talk
            else (),
        )


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """What an evaluation comes to, as JSON values.

    ``greedy`` and ``sampled`` are ``{"mean", "low", "high"}``, None each when nothing was scored. A problem
    none of whose completions was scored isn't in the mean. ``problems`` counts all of them, ``unscored``
    and ``truncated`` count completions, greedy and sampled together, of ``completions``.
    """
    answers = (*evaluation.greedy, *evaluation.sampled)
    return {
        "step": evaluation.step,
        "greedy": _interval(evaluation.greedy),
        "sampled": _interval(evaluation.sampled),
        "problems": len({answer.problem_id for answer in answers}),
        "completions": sum(len(answer.scores) for answer in answers),
        "unscored": sum(score.value is None for answer in answers for score in answer.scores),
        "truncated": sum(stop is StopReason.LENGTH for answer in answers for stop in answer.stops),
    }


def difference(before: Sequence[Answer], after: Sequence[Answer], level: float = 0.95) -> Interval:
    """How much better the same problems were answered after than before (`paired`).

    Problems that were scored only once of the two times, or never, are left out.

    Raises:
        CoveyError: the two are not answers to the same problems, or no problem was scored both times.
    """
    same_problems({answer.problem_id for answer in before}, {answer.problem_id for answer in after})
    old, new = scored(before), scored(after)
    both = [problem_id for problem_id in old if problem_id in new]
    if not both:
        raise CoveyError("no problem was scored both before and after: there is no difference to measure")
    return paired({key: old[key] for key in both}, {key: new[key] for key in both}, level)


def scored(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """Problem id → the values of its completions that were scored; problems without any are left out."""
    values = {
        answer.problem_id: [score.value for score in answer.scores if score.value is not None]
        for answer in answers
    }
    return {problem_id: scores for problem_id, scores in values.items() if scores}


def _interval(answers: Sequence[Answer]) -> dict[str, float | None]:
    values = list(scored(answers).values())
    if not values:
        return {"mean": None, "low": None, "high": None}
    interval = clustered(values)
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
