"""What a reasoning-gym problem is made of: its data set's settings and its entry, as JSON and back."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from io import StringIO
from typing import Any

from covey.types import CoveyError

DEPTH = 50
_TAGS = ("tuple", "set", "dict")


def dataset_of(name: str, settings: Mapping[str, Any]) -> Any:
    """The library's data set of a name, with the settings that aren't its defaults.

    Raises CoveyError when the package isn't installed, there is no such data set, or it refuses its settings.
    """
    gym = library()
    if name not in gym.DATASETS:
        raise CoveyError(f"reasoning-gym has no task {name!r}; there are: {', '.join(sorted(gym.DATASETS))}")
    kind, config = gym.DATASETS[name]
    try:
        with silent():
            return kind(config=config(**settings))
    except (AssertionError, TypeError, ValueError) as error:  # how the library says that a setting is wrong
        known = ", ".join(field.name for field in dataclasses.fields(config))
        raise CoveyError(f"reasoning-gym's {name} refuses its settings: {error}. It has: {known}") from error


@contextmanager
def silent() -> Iterator[None]:
    """The library prints dots where it searches, and leaves a data file to the collector."""
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


@lru_cache(maxsize=128)
def scorer(name: str, settings: str) -> Any:
    """A data set to score with; ``settings`` is the JSON of what `packed` makes of them."""
    return dataset_of(name, unpacked(json.loads(settings)))


def library() -> Any:
    """reasoning-gym's registry. Raises CoveyError when the package isn't installed."""
    try:
        from reasoning_gym import factory
    except ImportError as error:
        raise CoveyError(
            "reasoning_gym needs the package reasoning-gym; install it with: pip install 'covey[gym]'"
        ) from error
    return factory


def packed(value: Any, where: str, depth: int = 0) -> Any:
    """A Python value as JSON that `unpacked` gives back: tuples, sets and keys of other types are marked.

    Raises CoveyError, naming ``where``, for what it has no mark for.
    """
    if depth > DEPTH:
        raise CoveyError(f"{where}: nested more than {DEPTH} deep")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)  # NumPy's strings, too, become plain
    if isinstance(value, list):
        return [packed(item, where, depth + 1) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [packed(item, where, depth + 1) for item in value]}
    if isinstance(value, set | frozenset):
        return {"set": [packed(item, where, depth + 1) for item in sorted(value, key=repr)]}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value) and not (len(value) == 1 and set(value) <= set(_TAGS)):
            return {str(key): packed(item, where, depth + 1) for key, item in value.items()}
        pairs = [[packed(one, where, depth + 1) for one in pair] for pair in value.items()]
        return {"dict": pairs}
    raise CoveyError(f"{where}: a {type(value).__name__} has no form in JSON")


def unpacked(value: Any) -> Any:
    """What `packed` was given."""
    if isinstance(value, list):
        return [unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        [(tag, items)] = value.items()
        if tag == "tuple":
            return tuple(unpacked(item) for item in items)
        if tag == "set":
            return {unpacked(item) for item in items}
        if tag == "dict":
            return {unpacked(key): unpacked(item) for key, item in items}
    return {key: unpacked(item) for key, item in value.items()}
