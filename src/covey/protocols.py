"""The verbs: what a part must be able to do to take its place. None has more than three methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from covey.types import (
    Completion,
    Episode,
    Evaluation,
    Group,
    Message,
    Problem,
    Request,
    Score,
    Update,
    Weights,
)

Split: TypeAlias = Literal["train", "heldout"]


@runtime_checkable
class Task(Protocol):
    """A source of problems. No problem id may be in both splits."""

    def problems(self, split: Split) -> Sequence[Problem]: ...


@runtime_checkable
class Weighted(Protocol):
    """A task of several parts, whose training problems follow each other part by part."""

    def shares(self) -> Sequence[tuple[int, float]]:
        """For each part its number of training problems, and its weight in what is drawn."""
        ...


@runtime_checkable
class Environment(Protocol):
    """The other side of one conversation, made anew for each episode."""

    def first(self) -> Sequence[Message]:
        """What the policy reads first. Every episode of a problem begins alike."""
        ...

    def step(self, reply: Message) -> Sequence[Message] | None:
        """What it reads next, or None when the conversation is over.

        ``reply`` has the role ``assistant``, its ``content``, and ``tool_calls`` when the policy called
        tools: each ``{"name": str, "arguments": {…}}``, or ``{"error": str}`` where it can't be read.
        """
        ...


@runtime_checkable
class Interactive(Protocol):
    """A task whose problems are conversations. Its problems' messages are those that `first` gives."""

    def environment(self, problem: Problem, seed: int) -> Environment:
        """A fresh environment. All that is random in it follows from ``seed``: it can be met again."""
        ...

    def tools(self) -> Sequence[Mapping[str, Any]]:
        """What the policy may call, as JSON schemas of functions; see docs/environments.md."""
        ...


@runtime_checkable
class Reward(Protocol):
    """Scores the episodes of one problem, together, so that it may compare them.

    Returns one score per episode, in order. What can't be graded is ``Score(None, error=…)``.
    """

    def __call__(self, episodes: Sequence[Episode]) -> Sequence[Score]: ...


@runtime_checkable
class Submits(Protocol):
    """A reward that can be given episodes now and asked for their scores later, and works meanwhile."""

    def submit(self, episodes: Sequence[Episode]) -> Callable[[], Sequence[Score]]: ...


def submitted(reward: Reward, episodes: Sequence[Episode]) -> Callable[[], Sequence[Score]]:
    """Give any reward its episodes. What it returns is called once, for the scores; a reward that doesn't
    work meanwhile has them already."""
    if isinstance(reward, Submits):
        return reward.submit(episodes)
    scores = reward(episodes)
    return lambda: scores


@runtime_checkable
class Chat(Protocol):
    """Turns messages into the token ids the policy reads."""

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]: ...


@runtime_checkable
class Dialogue(Chat, Protocol):
    """A chat that goes on after a reply, without rendering anything again."""

    def after(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids between a reply's end token and the next reply: these messages and all around them."""
        ...

    def reply(self, ids: Sequence[int]) -> Message:
        """What sampled ids say, tool calls read out of them."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Tokens in, tokens out. Yields (index of the request, completion) as each one ends,
    so that grading overlaps with decoding; every request is answered exactly once."""

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]: ...


@runtime_checkable
class Engine(Sampler, Protocol):
    """A sampler whose weights follow the learner's."""

    def load(self, weights: Weights) -> None: ...


@runtime_checkable
class Fingerprinted(Protocol):
    """Says which weights it has, as a digest of each tensor by its name in the model.

    A learner tells what is to be computed with: its master weights in the dtype of computation. An
    engine may tell what it does compute with; one that keeps weights in a layout of its own brings
    them back to the model's first. A tied output head is there under its own name too.
    """

    def fingerprint(self) -> Mapping[str, str]: ...


@runtime_checkable
class Source(Protocol):
    """A stream of groups. Asynchrony would live here, as a bound on policy lag; 0 is synchronous.

    ``state`` is all that is needed to continue the stream elsewhere (JSON values only).
    """

    def next(self, step: int) -> Sequence[Group]: ...

    def state(self) -> Mapping[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...


@runtime_checkable
class Learner(Protocol):
    """Learns from a step's groups; the same one serves RL, SFT and distillation."""

    def update(self, step: int, groups: Sequence[Group]) -> Update: ...

    def weights(self) -> Weights: ...


@runtime_checkable
class Recorder(Protocol):
    """Keeps what happened, in the order it happened."""

    def groups(self, step: int, groups: Sequence[Group]) -> None: ...

    def update(self, step: int, update: Update) -> None: ...

    def evaluation(self, evaluation: Evaluation) -> None: ...


@runtime_checkable
class Evaluate(Protocol):
    """Measures the held-out split after ``step`` steps, or returns None when it isn't due."""

    def __call__(self, step: int) -> Evaluation | None: ...


@runtime_checkable
class Watch(Protocol):
    """Looks for what makes an experiment invalid, and raises when it has found it.

    Each moment comes after what it looks at is recorded: before ``groups`` are learned from, when
    they have been, and when the engine has loaded ``weights`` after ``step`` completed steps.
    """

    def sampled(self, step: int, groups: Sequence[Group]) -> None: ...

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> None: ...

    def loaded(self, step: int, weights: Weights) -> None: ...


@runtime_checkable
class Keep(Protocol):
    """Saves the state after ``step`` completed steps, when that is due."""

    def __call__(self, step: int) -> None: ...
