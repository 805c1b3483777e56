"""Where in a reply its answer stands, for the graders that compare texts."""

from __future__ import annotations

import re
import unicodedata

from covey.types import CoveyError

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def check_tag(tag: str | None) -> None:
    """Raise CoveyError for what can't be the name of a tag."""
    if tag is not None and not _TAG.fullmatch(tag):
        raise CoveyError(f"a tag is a name such as answer, not {tag!r}")


def final(text: str, tag: str | None) -> str | None:
    """What a reply gives as its answer: all of it without a tag, else what stands in its only such element.

    None when the element isn't there, isn't closed, or is there twice: who says several things has
    not answered.
    """
    if tag is None:
        return text
    opening, closing = f"<{tag}>", f"</{tag}>"
    if text.count(opening) != 1 or text.count(closing) != 1:
        return None
    _, _, rest = text.partition(opening)
    inside, closed, _ = rest.partition(closing)
    return inside if closed else None


def plain(text: str) -> str:
    """A text in Unicode's composed form, with single blanks between words and none at its ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())
