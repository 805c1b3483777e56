"""Episodes: every attempt of a step taken to its end, all of them advancing together.

A conversation's tokens are only ever appended to. The prompt is rendered once; what was sampled stays as
the engine gave it; what the environment says is put behind it (`Dialogue.after`). So the ids that are
trained are the ids that were sampled, turn after turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace

from covey.protocols import Chat, Dialogue, Environment, Interactive, Sampler
from covey.types import (
    Completion,
    CoveyError,
    DrawKey,
    Ending,
    Episode,
    Message,
    Problem,
    Request,
    Sampling,
    StopReason,
    Turn,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a conversation ends at the latest: after ``turns`` replies, and before one that might take it
    beyond ``tokens`` in all, prompt included. ``Sampling.max_new_tokens`` bounds each reply."""

    turns: int = 8
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Talk:
    """A task that answers, and how long it may."""

    task: Interactive
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Attempt:
    """An episode to be played: its problem, its prompt's ids, and the key of its first reply's draws."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    key: DrawKey


@dataclass(slots=True)
class _Running:
    """A conversation under way. ``context`` was put before the reply that is being sampled."""

    index: int
    attempt: Attempt
    environment: Environment
    context: tuple[int, ...]
    turns: list[Turn] = field(default_factory=list[Turn])

    @property
    def stream(self) -> tuple[int, ...]:
        """All tokens so far, what is being answered included."""
        return (
            *(t for turn in self.turns for t in (*turn.context_ids, *turn.completion.token_ids)),
            *self.context,
        )

    def request(self, sampling: Sampling) -> Request:
        return Request(self.stream, sampling, replace(self.attempt.key, turn=len(self.turns)))

    def end(self, why: Ending, error: str | None = None) -> tuple[int, Episode]:
        attempt = self.attempt
        return self.index, Episode(attempt.problem, attempt.key.sample, tuple(self.turns), why, error)


def play(
    attempts: Sequence[Attempt],
    sampler: Sampler,
    chat: Chat,
    sampling: Sampling,
    talk: Talk | None = None,
) -> Iterator[tuple[int, Episode]]:
    """Play every attempt, and yield (its index, its episode) as each one ends.

    Without ``talk`` an episode is one reply. With it every attempt has an environment of its own, and all
    conversations advance a reply at a time, together. An environment that raises an exception ends its
    episode with `Ending.ENVIRONMENT`, which is never a score of zero.

    Raises:
        CoveyError: an environment began otherwise than its problem says, or a CoveyError of its own; or a
            sampler doesn't say what its truncated sampling kept.
    """
    if talk is None:
        requests = [Request(a.prompt_ids, sampling, a.key) for a in attempts]
        for index, completion in _sampled(sampler, requests):
            a = attempts[index]
            yield index, Episode(a.problem, a.key.sample, (Turn(a.prompt_ids, completion),))
        return
    if not isinstance(chat, Dialogue):
        raise CoveyError("the chat can't go on after a reply: a task with an environment needs one that can")
    running = [_started(index, attempt, talk) for index, attempt in enumerate(attempts)]
    while running:
        goes_on: list[_Running] = []
        for place, completion in _sampled(sampler, [one.request(sampling) for one in running]):
            one = running[place]
            ended = _answered(one, completion, chat, sampling, talk.limits)
            if ended is None:
                goes_on.append(one)
            else:
                yield ended
        running = sorted(goes_on, key=lambda one: one.index)


def _sampled(sampler: Sampler, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
    """What the sampler answers. A truncation that isn't told would be a silent bias: the learner would
    take its log-probs over all ids."""
    for index, completion in sampler.generate(requests):
        request, kept = requests[index], completion.kept
        name = f"problem {request.key.problem_id!r}: the engine"
        if kept is not None and len(kept) != len(completion.token_ids):
            raise CoveyError(
                f"{name} says what it kept for {len(kept)} of {len(completion.token_ids)} tokens"
            )
        if completion.stop is not StopReason.ERROR and request.sampling.truncates != (kept is not None):
            raise CoveyError(
                f"{name} doesn't say which ids it kept (Completion.kept): leave rollout.top_k out"
                if kept is None
                else f"{name} truncated what it was asked to draw from the whole distribution"
            )
        yield index, completion


def seed_of(key: DrawKey) -> int:
    """What an episode's environment draws from: as with the policy's draws, a function of what it is for."""
    parts = ("environment", *astuple(replace(key, turn=0)))
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def _started(index: int, attempt: Attempt, talk: Talk) -> _Running:
    name = f"problem {attempt.problem.id!r}"
    try:
        environment = talk.task.environment(attempt.problem, seed_of(attempt.key))
        first = [dict(message) for message in environment.first()]
    except CoveyError:
        raise
    except Exception as error:  # the user's code: without a beginning there is no episode to blame
        raise CoveyError(f"{name}: its environment can't begin: {type(error).__name__}: {error}") from error
    if first != [dict(message) for message in attempt.problem.messages]:
        raise CoveyError(
            f"{name}: its environment's first() gives other messages than the problem has. All episodes "
            "of a problem begin with the problem's messages; what differs between them comes later"
        )
    return _Running(index, attempt, environment, attempt.prompt_ids)


def _answered(
    one: _Running, completion: Completion, chat: Dialogue, sampling: Sampling, limits: Limits
) -> tuple[int, Episode] | None:
    """Take a reply into a conversation, and its answer; the ended episode, or None when it goes on."""
    one.turns.append(Turn(one.context, completion))
    if completion.stop is StopReason.ERROR:
        return one.end(Ending.ENGINE)
    if completion.stop is StopReason.LENGTH:
        return one.end(Ending.CUT)
    try:
        said = one.environment.step(chat.reply(completion.token_ids))
        messages: list[Message] | None = None if said is None else [dict(m) for m in said]
    except CoveyError:
        raise
    except Exception as error:  # an environment is the user's code: what it raises is data of one episode
        return one.end(Ending.ENVIRONMENT, f"the environment failed: {type(error).__name__}: {error}")
    if messages is None:
        return one.end(Ending.DONE)
    if len(one.turns) == limits.turns:
        return one.end(Ending.TURNS)
    one.context = chat.after(messages)
    if limits.tokens is not None and len(one.stream) + sampling.max_new_tokens > limits.tokens:
        return one.end(Ending.TOKENS)
    return None
