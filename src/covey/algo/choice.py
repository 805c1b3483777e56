"""One way to name a component: ``{name, **params}``, checked against the function's own signature."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Choice:
    """A function by its name in Covey's table, or a function of one's own, and its parameters."""

    name: str | Callable[..., Any]
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name to print."""
        return self.name if isinstance(self.name, str) else getattr(self.name, "__name__", repr(self.name))

    def resolve(self, kind: str, table: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
        """The function with its parameters bound.

        ``kind`` is the word for the choice ("advantage"). Raises ValueError for an unknown name, an
        unknown or missing parameter, or a value of another type than the parameter's annotation.
        """
        if isinstance(self.name, str):
            if self.name not in table:
                raise ValueError(f"unknown {kind} {self.name!r}{did_you_mean(self.name, table)}")
            function = table[self.name]
        else:
            function = self.name
        self._check(f"{kind} {self.label!r}", function)
        return partial(function, **self.params)

    def _check(self, what: str, function: Callable[..., Any]) -> None:
        options = {
            name: parameter
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        hints = get_type_hints(inspect.unwrap(function))
        for name, value in self.params.items():
            if name not in options:
                raise ValueError(f"{what} has no parameter {name!r}{did_you_mean(name, options)}")
            if name in hints and not _fits(value, hints[name]):
                raise ValueError(f"{what}: {name} must be {_words(hints[name])}, not {value!r}")
        for name, parameter in options.items():
            if parameter.default is inspect.Parameter.empty and name not in self.params:
                raise ValueError(f"{what} needs its parameter {name!r}")


Chosen: TypeAlias = "Choice | str | Callable[..., Any] | Mapping[str, Any]"
"""How a choice may be written: in full, as a name, as a function, or as ``{"name": …, **params}``."""


def as_choice(written: Chosen) -> Choice:
    """The choice that was written. Raises ValueError for a mapping without a name."""
    if isinstance(written, Choice):
        return written
    if isinstance(written, Mapping):
        if "name" not in written:
            raise ValueError(f"a choice needs a name: {dict(written)!r}")
        return Choice(written["name"], {k: v for k, v in written.items() if k != "name"})
    return Choice(written)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the likeliest one meant, or all there are."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(known)}" if known else "; it has none"


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (str, bool, NoneType) else True


def _words(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(option) for option in get_args(hint))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    return _WORDS.get(hint, str(hint))


_WORDS = {float: "a number", int: "a whole number", str: "a string", bool: "true or false", NoneType: "None"}
