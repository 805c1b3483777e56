"""The nouns. Every room speaks in these and in no others; none of them knows a tensor.

    Problem ─▶ Request ─▶ Completion ─▶ Turn ─▶ Episode ─▶ Group ─▶ Sample ─▶ Update

A *problem* is one task instance. A *group* is the G episodes of one problem. A *step* is one
optimizer step's worth of groups. Token log-probabilities (natural log, one per token) have four
names and no others:

- ``logp``          the current policy's, the one that carries gradient
- ``old_logp``      the learner's own value at the start of the update
- ``sampler_logp``  what the engine reported while sampling
- ``ref_logp``      the frozen reference's
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Message: TypeAlias = Mapping[str, Any]
"""One chat message: at least ``role`` and ``content``."""


class CoveyError(Exception):
    """A failure the user can act on: the message says what is wrong, where, and what to do.

    Commands print it as one line without a traceback.
    """


class StopReason(StrEnum):
    """Why a completion ended. A failed episode is data with a reason, never an exception."""

    END = "end"  # the model sampled one of its end tokens
    LENGTH = "length"  # max_new_tokens reached: the answer is truncated
    ERROR = "error"  # the engine failed; the completion may not be trained on


class Ending(StrEnum):
    """Why a conversation with an environment ended."""

    DONE = "done"  # the environment had nothing more to say
    TURNS = "turns"  # rollout.max_turns replies were given
    TOKENS = "tokens"  # another reply might exceed rollout.max_episode_tokens
    CUT = "cut"  # a reply was truncated: what it meant isn't known
    ENGINE = "engine"  # the engine failed
    ENVIRONMENT = "environment"  # the environment raised an exception; the episode isn't scored


@dataclass(frozen=True, slots=True)
class Problem:
    """One task instance.

    ``id`` is stable across runs: it keys the random draws and the held-out split.
    ``answer`` is the gold answer, or None when the task has none.
    ``columns`` are the further fields of the data row, handed to rewards by name.
    """

    id: str
    messages: tuple[Message, ...]
    answer: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])


MOST_KEPT = 1024
"""Ids that truncated sampling may keep of a token's vocabulary: they are recorded for every token."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn: ``temperature`` 0 is greedy; ``max_new_tokens`` counts the end token.

    With ``top_k`` above 0 the distribution at the temperature is truncated: the ``top_k`` likeliest ids
    are kept, of these the fewest whose share of them reaches ``top_p``, and of those the ones at least
    ``min_p`` times as likely as the likeliest. Greedy tokens are as they are.

    Raises ValueError for a value out of range, and for ``top_p`` or ``min_p`` without ``top_k``, which
    could keep tens of thousands of ids.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.top_k <= MOST_KEPT:
            raise ValueError(f"top_k is from 0 (all) to {MOST_KEPT}, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is above 0 and at most 1 (all), not {self.top_p}")
        if not 0 <= self.min_p < 1:
            raise ValueError(f"min_p is from 0 (all) to below 1, not {self.min_p}")
        if self.top_k == 0 and (self.top_p < 1 or self.min_p > 0):
            raise ValueError(
                f"top_p and min_p narrow what top_k keeps: set top_k, to at most {MOST_KEPT}. Alone they may "
                "keep most of a vocabulary where the model is unsure, and the ids that every token keeps are "
                "recorded and trained on"
            )

    @property
    def truncates(self) -> bool:
        """Whether some of the distribution is cut off, so that what is kept has to be told."""
        return self.top_k > 0 and self.temperature > 0


@dataclass(frozen=True, slots=True)
class DrawKey:
    """Names one completion's stream of random numbers, one per token position.

    Nothing about batch order, slots or workers enters, so a draw can't depend on them.
    """

    seed: int
    step: int
    problem_id: str
    sample: int
    turn: int = 0
    purpose: str = "train"


@dataclass(frozen=True, slots=True)
class Request:
    """Tokens in: what an engine is asked to continue."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    key: DrawKey


@dataclass(frozen=True, slots=True)
class Completion:
    """Tokens out, exactly as sampled; they are never re-tokenized.

    ``token_ids`` includes the end token when one was sampled. ``sampler_logp`` has one value per
    token, under the very distribution the token was drawn from (temperature and truncation included),
    or is None for an engine that can't report it; such a completion can't be trained on.

    ``kept`` has for each token the ids that sampling kept of the vocabulary, ascending, or is None where
    it didn't truncate (`Sampling.truncates`): the learner's distribution is over the very same ids.
    """

    token_ids: tuple[int, ...]
    sampler_logp: tuple[float, ...] | None
    stop: StopReason
    policy_version: int
    text: str = ""
    kept: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """``context_ids`` are the tokens put before the reply since the last turn; they carry no loss."""

    context_ids: tuple[int, ...]
    completion: Completion


@dataclass(frozen=True, slots=True)
class Episode:
    """One attempt at a problem: one turn, or several in a conversation.

    The token stream is the turns laid end to end: context, reply, context, reply, ….
    ``ended`` says why a conversation with an environment ended; it is None where there is none.
    ``error`` is what the environment raised.
    """

    problem: Problem
    sample: int
    turns: tuple[Turn, ...]
    ended: Ending | None = None
    error: str | None = None

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The whole stream, prompt included."""
        return tuple(t for turn in self.turns for t in (*turn.context_ids, *turn.completion.token_ids))

    @property
    def loss_mask(self) -> tuple[bool, ...]:
        """True where the policy chose the token, in step with ``token_ids``."""
        return tuple(
            own
            for turn in self.turns
            for own, ids in ((False, turn.context_ids), (True, turn.completion.token_ids))
            for _ in ids
        )

    @property
    def sampler_logp(self) -> tuple[float, ...] | None:
        """One value per chosen token, or None when any turn lacks them."""
        parts = [turn.completion.sampler_logp for turn in self.turns]
        return None if any(p is None for p in parts) else tuple(x for p in parts for x in p or ())

    @property
    def kept(self) -> tuple[tuple[int, ...], ...] | None:
        """The ids kept at each chosen token, or None when no turn was truncated. Raises ValueError when
        only some were."""
        parts = [turn.completion.kept for turn in self.turns if turn.completion.token_ids]
        if all(part is None for part in parts):
            return None
        if any(part is None for part in parts):
            raise ValueError("some replies of the episode say which ids sampling kept, and some don't")
        return tuple(ids for part in parts for ids in part or ())

    @property
    def chosen_ids(self) -> tuple[int, ...]:
        """The tokens the policy chose."""
        return tuple(t for turn in self.turns for t in turn.completion.token_ids)

    @property
    def chosen(self) -> int:
        """How many tokens the policy chose."""
        return sum(len(turn.completion.token_ids) for turn in self.turns)

    @property
    def text(self) -> str:
        """The last reply, which is what a single-turn reward reads."""
        return self.turns[-1].completion.text if self.turns else ""

    @property
    def stop(self) -> StopReason:
        return self.turns[-1].completion.stop if self.turns else StopReason.ERROR

    @property
    def failure(self) -> str | None:
        """Why the episode can't be scored, whatever the policy wrote; None when nothing failed."""
        return "the engine failed" if self.stop is StopReason.ERROR else self.error


@dataclass(frozen=True, slots=True)
class Fault:
    """How grading failed.

    ``kind`` is what failures are counted by: ``raised``, ``timeout``, ``memory``, ``died``, ``start``,
    ``type``, ``length``, ``not finite``, ``none``, ``server``, ``environment``. ``trace`` is the traceback,
    where there is one.
    """

    kind: str
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A grader's verdict. ``value`` None means *not scored*: never the same thing as 0.

    ``parts`` keeps the named components a combined score was made of; ``error`` says why a
    score is missing, and ``fault`` what is known beyond that while the run is at it: it isn't recorded.
    """

    value: float | None
    parts: Mapping[str, float | None] = field(default_factory=dict[str, "float | None"])
    error: str | None = None
    fault: Fault | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a score must be finite or None, not {self.value}")


@dataclass(frozen=True, slots=True)
class Group:
    """The episodes of one problem with their scores, in sample order.

    ``excluded`` says why a group is recorded but not trained on (``zero variance``,
    ``unscored``); None means it is trained on.
    """

    problem: Problem
    episodes: tuple[Episode, ...]
    scores: tuple[Score, ...]
    excluded: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One episode as it was trained.

    ``weight``, ``logp`` and ``sampler_logp`` have one value per chosen token; ``logp`` is the
    learner's at its first pass over the sample. ``group`` counts the step's groups, excluded
    ones included, so that (step, group, sample) names a recorded episode. ``token_ids`` are the
    chosen tokens as the loss saw them; left empty, they are the episode's.

    A learner that looks at the whole rollout before its first optimizer step also keeps what it saw:
    ``old_logp``, and where its algorithm reads them ``ref_logp`` and ``selected`` (1 or 0 a token).
    ``entropy`` (nats) is kept with ``logp`` where the loss pays for it, ``ref_logp`` also where the
    distance to the reference moves a coefficient.
    """

    group: int
    sample: int
    advantage: float
    weight: tuple[float, ...]
    logp: tuple[float, ...]
    sampler_logp: tuple[float, ...]
    token_ids: tuple[int, ...] = ()
    old_logp: tuple[float, ...] = ()
    ref_logp: tuple[float, ...] = ()
    selected: tuple[float, ...] = ()
    entropy: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """What one step did: one optimizer step, or ``train.epochs`` × ``train.mini_batches`` of them.
    ``trained`` is False when no group carried a signal, and when no gradient was finite."""

    trained: bool
    metrics: Mapping[str, float]
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Weights:
    """A handle on the policy's parameters. ``version`` counts optimizer steps."""

    version: int
    policy: Any


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval, clustered by problem."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One held-out problem's result: the scores and texts of its completions, in sample order.

    Of a conversation these are the last reply's, and ``earlier`` has the replies before it: for each
    sample, their token ids.
    """

    problem_id: str
    scores: tuple[Score, ...]
    texts: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    stops: tuple[StopReason, ...]
    earlier: tuple[tuple[tuple[int, ...], ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out answers at one step: ``greedy`` (temperature 0, one each) and ``sampled``."""

    step: int
    greedy: tuple[Answer, ...]
    sampled: tuple[Answer, ...]
