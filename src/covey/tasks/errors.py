"""The error for a name that was looked up in vain."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from covey.types import CoveyError


def unknown(where: str, kind: str, name: str, known: Iterable[object]) -> CoveyError:
    """Says where the name stood, which known one is nearest, and which there are."""
    names = [str(item) for item in known]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return CoveyError(f"{where}: no {kind} {name!r}.{hint} There are: {', '.join(names) or 'none'}")
