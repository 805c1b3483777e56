"""Errors that several tasks have: a name looked up in vain, a prompt without its fields."""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterable, Sequence

from covey.types import CoveyError


def unknown(where: str, kind: str, name: str, known: Iterable[object]) -> CoveyError:
    """Says where the name stood, which known one is nearest, and which there are."""
    names = [str(item) for item in known]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return CoveyError(f"{where}: no {kind} {name!r}.{hint} There are: {', '.join(names) or 'none'}")


def check_template(where: str, prompt: str, fields: Sequence[str]) -> None:
    """Raise CoveyError unless the prompt is a format string of exactly these fields."""
    try:
        used = {name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None}
    except ValueError as error:
        raise CoveyError(f"{where}: the prompt is no format string ({error}): {prompt!r}") from error
    if used != set(fields):
        named = [f"{{{field}}}" for field in fields]
        listed = f"{', '.join(named[:-1])} and {named[-1]}"
        raise CoveyError(f"{where}: the prompt must use {listed} and nothing else: {prompt!r}")
