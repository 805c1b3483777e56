"""From a name and parameters in a recipe to the object they mean."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from covey.config import Component
from covey.protocols import Reward, Task
from covey.rewards import REWARDS
from covey.rewards.functions import from_function
from covey.tasks import TASKS
from covey.types import CoveyError


def build_task(component: Component) -> Task:
    """The task a recipe names. Raises CoveyError for an unknown name or parameter."""
    made = _make("task", component, TASKS)
    if not callable(getattr(made, "problems", None)):
        raise CoveyError(f"[task] {component.name!r} isn't a task: it has no method problems(split)")
    return made


def build_reward(component: Component) -> Reward:
    """The reward a recipe names; a function of its own, with TRL's signature, is used unchanged."""
    if component.name in REWARDS:
        return _make("reward", component, REWARDS)
    found = _find("reward", component.name, REWARDS)
    if inspect.isclass(found):
        return _call("reward", component, found)
    if component.params:
        raise CoveyError(f"[reward] {component.name!r} is a function: it takes no parameters in the recipe")
    return from_function(found)


def _make(kind: str, component: Component, table: Mapping[str, str]) -> Any:
    return _call(kind, component, _find(kind, component.name, table))


def _find(kind: str, name: str, table: Mapping[str, str]) -> Callable[..., Any]:
    """The object behind a table's name, ``package.module:object`` or ``file.py:object``."""
    target = table.get(name, name)
    if ":" not in target:
        close = difflib.get_close_matches(name, table, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(table)};"
        raise CoveyError(
            f"unknown {kind} {name!r}; {hint} an own one is written file.py:name or package.module:name"
        )
    where, _, attribute = target.rpartition(":")
    module = _from_file(kind, Path(where)) if where.endswith(".py") else _from_package(kind, where)
    if not hasattr(module, attribute):
        close = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise CoveyError(f"[{kind}] {where} has no {attribute!r}{hint}")
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
    spec.loader.exec_module(module)
    return module


def _from_package(kind: str, name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` would: a user's module lies where he stands
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise CoveyError(f"[{kind}] can't import {name!r}: {error}") from error


def _call(kind: str, component: Component, target: Callable[..., Any]) -> Any:
    """Call it with the recipe's parameters, checked against its own signature."""
    known = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for key in component.params:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(known) or 'none'}"
                raise CoveyError(f"[{kind}] {component.name!r} has no parameter {key!r}; {hint}")
    named = {n: p for n, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    missing = [n for n, p in named.items() if p.default is p.empty and n not in component.params]
    if missing:
        raise CoveyError(f"[{kind}] {component.name!r} needs {', '.join(missing)}")
    try:
        return target(**component.params)
    except (TypeError, ValueError) as error:
        raise CoveyError(f"[{kind}] {component.name!r}: {error}") from error
