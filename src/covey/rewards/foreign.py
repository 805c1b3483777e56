"""Reward functions written for other trainers, run unchanged.

========== ================================================================ ==============================
style      signature                                                        called
========== ================================================================ ==============================
trl        ``f(completions, **columns) -> list[float | None]``              once for a group, by keyword
verl       ``f(data_source, solution_str, ground_truth, extra_info=None)``  once for an episode, by keyword
openrlhf   ``f(queries, prompts, labels, **kwargs)``                        once for a group
========== ================================================================ ==============================

The style is told from the parameters' names; ``style`` says it where they don't. Any may be async. What
raises, or returns anything else, is not scored, and says why. TRL hands over what the data set has, messages
or strings; Covey's prompts are always messages, and ``plain`` is for functions that were written for strings.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from covey.protocols import Reward
from covey.rewards.functions import Failure, as_score, attempt, awaited, from_function, number
from covey.types import CoveyError, Episode, Problem, Score

Style: TypeAlias = Literal["trl", "verl", "openrlhf"]


def reward_of(function: Callable[..., Any], style: Style | None = None, plain: bool | None = None) -> Reward:
    """Make a reward of a function of any of the styles; for ``plain`` see `from_function`.

    Raises:
        CoveyError: it can't be called, there is no such style, or ``plain`` is given to one that isn't TRL's.
    """
    style = style or style_of(function)
    if plain is not None and (style != "trl" or not isinstance(plain, bool)):
        raise CoveyError(
            f"a reward function's plain is true or false, and only in TRL's style, not {style}'s"
        )
    if style == "trl":
        return from_function(function, plain=plain)
    name = getattr(function, "__name__", type(function).__name__)
    if style == "verl":
        return VerlReward(function, name)
    if style == "openrlhf":
        return OpenRLHFReward(function, name)
    raise CoveyError(f"a reward function's style is one of {', '.join(get_args(Style))}, not {style!r}")


def style_of(function: Callable[..., Any]) -> Style:
    """The style that a function's parameters are named after; TRL's when they are named after none."""
    try:
        names = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # no callable, or a built-in one that has no signature to show
        return "trl"
    if {"solution_str", "ground_truth"} <= names:
        return "verl"
    return "openrlhf" if {"queries", "prompts", "labels"} <= names else "trl"


@dataclass(frozen=True)
class VerlReward:
    """A verl function as a `Reward`: a number, or a mapping with ``score``, for one reply.

    ``data_source`` is the row's column of that name, or "". ``ground_truth`` is that of the row's column
    ``reward_model``, as verl's data has it, or the gold answer. ``extra_info`` is the row's column of that
    name, or all of its columns. Of a returned mapping the other numbers are kept as parts.
    """

    each: ClassVar[bool] = True

    function: Callable[..., Any]
    name: str

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [self._score(episode) for episode in episodes]

    def _score(self, episode: Episode) -> Score:
        arguments = self.arguments(episode.problem) | {"solution_str": episode.text}
        result = attempt(self.name, lambda: awaited(self.function(**arguments)))
        if not isinstance(result, Mapping):
            return as_score(self.name, result)
        if "score" not in result:
            return Failure(f"{self.name} returned a mapping without 'score'", "type").score
        return _with_parts(as_score(self.name, result["score"]), result, leave=("score",))

    def arguments(self, problem: Problem) -> dict[str, Any]:
        """All arguments but the reply's text; the function may change them."""
        columns = copy.deepcopy(dict(problem.columns))
        model = columns.get("reward_model")
        return {
            "data_source": columns.get("data_source", ""),
            "ground_truth": model.get("ground_truth", problem.answer)
            if isinstance(model, dict)
            else problem.answer,
            "extra_info": columns.get("extra_info", columns),
        }


@dataclass(frozen=True)
class OpenRLHFReward:
    """An OpenRLHF function as a `Reward`: a series of numbers, or a mapping with ``rewards``, for a group.

    ``prompts`` are the problem's messages as plain text, a paragraph each, and ``queries`` are the prompts
    with the reply behind; no chat template is in them. ``labels`` are the gold answers. ``scores`` and
    ``extra_logs`` of a returned mapping are kept as parts.
    """

    function: Callable[..., Any]
    name: str

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        columns = texts(episodes)
        result = attempt(self.name, lambda: awaited(self.function(**columns)))
        return scored(self.name, result, len(episodes))


def texts(episodes: Sequence[Episode]) -> dict[str, list[Any]]:
    """``queries``, ``prompts`` and ``labels`` of episodes, as OpenRLHF names them."""
    prompts = [
        "\n\n".join(str(message["content"]) for message in e.problem.messages) + "\n\n" for e in episodes
    ]
    return {
        "queries": [prompt + e.text for prompt, e in zip(prompts, episodes, strict=True)],
        "prompts": prompts,
        "labels": [e.problem.answer for e in episodes],
    }


def scored(name: str, result: Any, count: int) -> list[Score]:
    """What an OpenRLHF function or server returned for ``count`` episodes, as their scores."""
    if isinstance(result, Failure):
        return [result.score] * count
    more: dict[str, Any] = {}
    if isinstance(result, Mapping):
        if "rewards" not in result:
            return [Failure(f"{name} returned a mapping without 'rewards'", "type").score] * count
        logs = result.get("extra_logs")
        more = {**(logs if isinstance(logs, Mapping) else {}), "scores": result.get("scores")}
        result = result["rewards"]
    values = attempt(name, lambda: _listed(result))
    if not isinstance(values, list) or len(values) != count:
        listed = isinstance(values, list)
        found = f"{len(values)} scores" if listed else type(result).__name__
        reason = f"{name} returned {found} for {count} completions"
        return [Failure(reason, "length" if listed else "type").score] * count
    columns = {key: listed for key, value in more.items() if len(listed := _listed(value) or ()) == count}
    return [
        _with_parts(as_score(name, value), {key: listed[i] for key, listed in columns.items()})
        for i, value in enumerate(values)
    ]


def _listed(value: Any) -> list[Any] | None:
    """A tensor, an array, a list or a tuple as a list."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, list | tuple) else None


def _with_parts(score: Score, more: Mapping[Any, Any], leave: Sequence[str] = ()) -> Score:
    parts = {
        str(key): found
        for key, value in more.items()
        if key not in leave and (found := number(value)) is not None
    }
    return replace(score, parts=parts)
