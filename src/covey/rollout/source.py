"""The stream of groups: draw problems, sample a group of answers to each, score them, filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from covey.protocols import Chat, Reward, Sampler, submitted
from covey.rollout.draw import Uniform
from covey.rollout.episode import Attempt, Talk, play
from covey.rollout.filters import exclusion, ungraded
from covey.rollout.mixed import Mixed
from covey.types import (
    CoveyError,
    DrawKey,
    Episode,
    Group,
    Problem,
    Sampling,
    Score,
)


class SynchronousSource:
    """Groups sampled by the newest weights: policy lag 0.

    Every step draws ``problems_per_step`` problems, uniformly unless another ``draw`` is given. A group
    that carries no signal is kept in the record but excluded from training, and replaced by a fresh
    problem, in at most ``refills`` further rounds; what is still missing then is trained without.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        sampler: Sampler,
        chat: Chat,
        reward: Reward,
        sampling: Sampling,
        *,
        problems_per_step: int,
        group_size: int,
        seed: int,
        refills: int = 1,
        max_prompt_tokens: int | None = None,
        draw: Uniform | Mixed | None = None,
        talk: Talk | None = None,
    ) -> None:
        self.problems, self.sampler, self.chat, self.reward = problems, sampler, chat, reward
        self.sampling = sampling
        self.problems_per_step, self.group_size, self.refills = problems_per_step, group_size, refills
        self.seed = seed
        self.max_prompt_tokens = max_prompt_tokens
        self.draw = draw or Uniform(len(problems), seed)
        self.talk = talk

    def next(self, step: int) -> Sequence[Group]:
        """The step's groups in the order drawn, excluded ones among them."""
        groups: list[Group] = []
        seen: Counter[str] = Counter()
        missing = self.problems_per_step
        for _ in range(1 + self.refills):
            drawn = self.draw.take(step, missing)
            fresh = self.sample(step, [self.problems[i] for i in drawn], seen)
            self.draw.saw(step, drawn, fresh)
            groups += fresh
            missing -= sum(g.excluded is None for g in fresh)
            if not missing:
                break
        return groups

    def sample(self, step: int, problems: Sequence[Problem], seen: Counter[str]) -> list[Group]:
        """One group for each problem, scored. ``seen`` counts how often the step has drawn each problem
        id so far, and is counted on: the second time, a problem gets draws of its own."""
        attempts: list[Attempt] = []
        for problem in problems:
            prompt = self.prompt(problem)
            again = seen[problem.id]
            purpose = f"train/{again}" if again else "train"
            seen[problem.id] += 1
            for sample in range(self.group_size):
                key = DrawKey(self.seed, step, problem.id, sample, purpose=purpose)
                attempts.append(Attempt(problem, prompt, key))
        waiting: dict[int, dict[int, Episode]] = {}
        scoring: dict[int, Callable[[], Group]] = {}
        for index, episode in play(attempts, self.sampler, self.chat, self.sampling, self.talk):
            place, sample = divmod(index, self.group_size)
            waiting.setdefault(place, {})[sample] = episode
            if len(waiting[place]) == self.group_size:
                episodes = tuple(waiting[place][s] for s in range(self.group_size))
                scoring[place] = self.score(problems[place], episodes)
        return [scoring[place]() for place in range(len(problems))]

    def score(self, problem: Problem, episodes: tuple[Episode, ...]) -> Callable[[], Group]:
        """Have a whole group scored, and say when asked whether it can be trained on; an episode that failed
        is not scored. Where the reward works in processes or a thread of its own, others are sampled
        meanwhile."""
        finished = [e for e in episodes if e.failure is None]
        scores = submitted(self.reward, finished) if finished else list[Score]
        return partial(self.group, problem, episodes, finished, scores)

    def group(
        self,
        problem: Problem,
        episodes: tuple[Episode, ...],
        finished: Sequence[Episode],
        wanted: Callable[[], Sequence[Score]],
    ) -> Group:
        """A group with its scores, of which ``finished`` has one each."""
        graded = tuple(wanted())
        if len(graded) != len(finished):
            raise CoveyError(
                f"the reward returned {len(graded)} scores for {len(finished)} completions of problem "
                f"{problem.id!r}; it must return one for each, in order (None for one it can't score)"
            )
        by_sample = {e.sample: score for e, score in zip(finished, graded, strict=True)}
        scores = tuple(by_sample[e.sample] if e.sample in by_sample else ungraded(e) for e in episodes)
        return Group(problem, episodes, scores, exclusion(scores))

    def prompt(self, problem: Problem) -> tuple[int, ...]:
        """The problem's token ids. Raises CoveyError when they exceed the limit."""
        ids = self.chat.prompt(problem.messages)
        if self.max_prompt_tokens is not None and len(ids) > self.max_prompt_tokens:
            raise CoveyError(
                f"problem {problem.id!r} has a prompt of {len(ids)} tokens, more than "
                f"rollout.max_prompt_tokens = {self.max_prompt_tokens}: raise the limit, or take the row out"
            )
        return ids

    def state(self) -> Mapping[str, Any]:
        return self.draw.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.draw.restore(state)
