"""From a name and parameters in a recipe to the object they mean."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from covey.build.combined import combined
from covey.config import Component
from covey.engines import ENGINES
from covey.models import Policy
from covey.protocols import Engine, Reward, Task
from covey.rewards import REWARDS
from covey.rewards.foreign import reward_of
from covey.rollout import DRAWS, Uniform
from covey.tasks import TASKS
from covey.types import CoveyError


def build_task(component: Component) -> Task:
    """The task a recipe names: what a class or a function makes, or a task as it stands. Raises
    CoveyError for an unknown name or parameter."""
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
    function with the signature of TRL, verl or OpenRLHF, used unchanged; a function takes ``style``. Raises
    CoveyError for an unknown name or parameter."""
    if component.name == "combine":
        return combined(component, build_reward)
    made = _find("reward", component.name, REWARDS)
    if inspect.isclass(made):
        made = _call("reward", component, made)
    elif inspect.isroutine(made):
        made = _call("reward", component, partial(reward_of, made))
    else:
        _takes_none("reward", component)
    if not isinstance(made, Reward):
        raise CoveyError(f"[reward] {component.name!r} isn't a reward: it can't be called")
    return made


def reaches_out(component: Component) -> str | None:
    """What a part of a stranger's recipe would do beside computing, in a few words, or None: import its
    author's own code, or ask a server. The parts it is made of count, too, however deep they stand."""
    for name in _names({"name": component.name, **component.params}):
        if ":" in name:
            return f"{name!r} is the author's own code"
        if name in REWARDS and (outside := getattr(_find("reward", name, REWARDS), "outside", None)):
            return f"reward {name!r} {outside}"
    return None


def _names(value: Any) -> Iterator[str]:
    """All that may name a component: what is called ``name``, and each text in a list."""
    if isinstance(value, Mapping):
        if isinstance(value.get("name"), str):
            yield value["name"]
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
    where, _, attribute = target.rpartition(":")
    module = _from_file(kind, Path(where)) if where.endswith(".py") else _from_package(kind, where)
    if not hasattr(module, attribute):
        hint = _did_you_mean(attribute, dir(module))
        raise CoveyError(f"[{kind}] {where} has no {attribute!r}{hint and '; ' + hint}")
    return getattr(module, attribute)


def _from_file(kind: str, path: Path) -> Any:
    if not path.is_file():
        raise CoveyError(f"[{kind}] there is no file {path}")
    name = f"covey_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _foreign(kind, str(path)):
        spec.loader.exec_module(module)
    return module


def _from_package(kind: str, name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` would: a user's module lies where he stands
    with _foreign(kind, name):
        return importlib.import_module(name)


@contextmanager
def _foreign(kind: str, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a user's module is anything: what it raises is told by its place
        last = traceback.extract_tb(error.__traceback__)[-1]
        says_where = isinstance(error, SyntaxError | ModuleNotFoundError)
        place = "" if says_where else f" ({Path(last.filename).name}, line {last.lineno})"
        raise CoveyError(f"[{kind}] can't import {name!r}: {type(error).__name__}: {error}{place}") from error


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
