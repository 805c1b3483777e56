"""From a name and parameters in a recipe to the object they mean."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from covey.build.combined import combined
from covey.build.mixed import by_part, mixture
from covey.config import Component
from covey.engines import ENGINES
from covey.models import Policy
from covey.protocols import Engine, Reward, Task
from covey.rewards import REWARDS
from covey.rewards.foreign import reward_of
from covey.rewards.named import named
from covey.rewards.pool import Limits
from covey.rewards.pooled import Pooled
from covey.rollout import DRAWS, Uniform
from covey.tasks import TASKS
from covey.types import CoveyError


def build_task(component: Component) -> Task:
    """The task a recipe names: what a class or a function makes, or a task as it stands. Raises
    CoveyError for an unknown name or parameter."""
    if component.name == "mixture":
        return mixture(component, build_task)
    made = _find("task", component.name, TASKS)
    if inspect.isclass(made) or inspect.isroutine(made):
        made = _call("task", component, made)
    else:
        _takes_none("task", component)
    if not callable(getattr(made, "problems", None)):
        raise CoveyError(f"[task] {component.name!r} isn't a task: it has no method problems(split)")
    return made


def build_reward(component: Component) -> Reward:
    """The reward a recipe names: of Covey's own, a class to make one of, a reward as it stands, or a
    function with the signature of TRL, verl or OpenRLHF, used unchanged; a function takes ``style`` and
    ``plain``. Raises CoveyError for an unknown name or parameter."""
    if component.name == "combine":
        return combined(component, build_reward)
    if component.name == "by_part":
        return by_part(component, build_reward)
    component, limits = _limits(component)
    made = _find("reward", component.name, REWARDS)
    if inspect.isclass(made):
        made = _call("reward", component, made)
    elif inspect.isroutine(made):
        made = _call("reward", component, partial(reward_of, made))
    else:
        _takes_none("reward", component)
    if not isinstance(made, Reward):
        raise CoveyError(f"[reward] {component.name!r} isn't a reward: it can't be called")
    if ":" not in component.name and not getattr(made, "pooled", False):
        if limits:
            raise CoveyError(f"[reward] {component.name!r} has no limits: it runs in no process of its own")
        return made
    target = REWARDS.get(component.name, component.name)
    return Pooled(made, component.name, target, component.params, _limits_of(made, limits))


def _limits(component: Component) -> tuple[Component, Mapping[str, Any]]:
    """A reward without its ``limits``, and those."""
    params = component.params
    limits = params.pop("limits", {})
    if not isinstance(limits, Mapping):
        raise CoveyError(f"[reward] limits are written {{ seconds = 10 }}, not {limits!r}")
    return Component.model_validate({"name": component.name, **params}), limits


def _limits_of(reward: Any, given: Mapping[str, Any]) -> Limits:
    default = getattr(reward, "limits", None)
    default = default if isinstance(default, Limits) else Limits()
    known = [field.name for field in dataclasses.fields(Limits)]
    for key in given:
        if key not in known:
            hint = _did_you_mean(key, known) or f"there are: {', '.join(known)}"
            raise CoveyError(f"[reward] limits has no key {key!r}; {hint}")
    return dataclasses.replace(default, **given)


def own_functions(changes: Mapping[str, Any]) -> dict[str, Any]:
    """An algorithm's changes, as a recipe has them, with the functions that names with a colon mean. Raises
    CoveyError for one that there isn't."""

    def found(kind: str, written: Any) -> Any:
        if isinstance(written, Mapping) and ":" in written["name"]:
            return {**written, "name": named(f"algorithm.{kind}", written["name"])}
        return [found(kind, one) for one in written] if isinstance(written, list) else written

    return {kind: found(kind, written) for kind, written in changes.items()}


def reaches_out(*parts: Component | Mapping[str, Any]) -> str | None:
    """What parts of a stranger's recipe would do beside computing, in a few words, or None: import their
    author's own code, or ask a server. What they are made of counts, too, however deep it stands."""
    written = ({"name": p.name, **p.params} if isinstance(p, Component) else p for p in parts)
    for name in (name for part in written for name in _names(part)):
        if ":" in name:
            return f"{name!r} is the author's own code"
        if name in REWARDS and (outside := getattr(_find("reward", name, REWARDS), "outside", None)):
            return f"{name!r} {outside}"
    return None


def _names(value: Any) -> Iterator[str]:
    """All that may name a component: what is a ``name``, ``task`` or ``reward``, and each text in a list."""
    if isinstance(value, Mapping):
        yield from (value[key] for key in ("name", "task", "reward") if isinstance(value.get(key), str))
        for inside in value.values():
            yield from _names(inside)
    elif isinstance(value, list | tuple):
        for inside in value:
            yield from [inside] if isinstance(inside, str) else _names(inside)


def build_draw(component: Component, count: int, seed: int) -> Uniform:
    """The draw a recipe names, of ``count`` problems. Raises CoveyError for an unknown name or parameter."""
    if component.name not in DRAWS:
        hint = _did_you_mean(component.name, DRAWS) or f"there are: {', '.join(DRAWS)}"
        raise CoveyError(f"[rollout] unknown draw {component.name!r}; {hint}")
    return _call("rollout.draw", component, partial(DRAWS[component.name], count, seed))


def build_engine(component: Component, policy: Policy) -> Engine:
    """The engine a recipe names, around a policy. Raises CoveyError for a parameter it can't take."""
    check_engine(component)
    return _call("rollout.engine", component, partial(ENGINES[component.name], policy))


def check_engine(component: Component) -> None:
    """Raise CoveyError for an unknown engine or parameter; no policy is needed to know."""
    if component.name not in ENGINES:
        hint = _did_you_mean(component.name, ENGINES) or f"there are: {', '.join(ENGINES)}"
        raise CoveyError(f"[rollout] unknown engine {component.name!r}; {hint}")
    known = dict(inspect.signature(ENGINES[component.name]).parameters)
    del known["policy"]
    _check("rollout.engine", component, known)


def _find(kind: str, name: str, table: Mapping[str, str]) -> Any:
    """The object behind a table's name, ``package.module:object`` or ``file.py:object``."""
    target = table.get(name, name)
    if ":" not in target:
        hint = _did_you_mean(name, table) or f"there are: {', '.join(table)};"
        raise CoveyError(
            f"unknown {kind} {name!r}; {hint} an own one is written file.py:name or package.module:name"
        )
    return named(kind, target)


def _call(kind: str, component: Component, target: Callable[..., Any]) -> Any:
    """Call it with the recipe's parameters, checked against its own signature."""
    _check(kind, component, inspect.signature(target).parameters)
    try:
        return target(**component.params)
    except (TypeError, ValueError) as error:
        raise CoveyError(f"[{kind}] {component.name!r}: {error}") from error


def _takes_none(kind: str, component: Component) -> None:
    if component.params:
        raise CoveyError(f"[{kind}] {component.name!r} isn't a class: it takes no parameters in the recipe")


def _check(kind: str, component: Component, known: Mapping[str, inspect.Parameter]) -> None:
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for key in component.params:
            if key not in known:
                hint = _did_you_mean(key, known) or f"it takes: {', '.join(known) or 'none'}"
                raise CoveyError(f"[{kind}] {component.name!r} has no parameter {key!r}; {hint}")
    named = {n: p for n, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    missing = [n for n, p in named.items() if p.default is p.empty and n not in component.params]
    if missing:
        raise CoveyError(f"[{kind}] {component.name!r} needs {', '.join(missing)}")


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""
