"""Text from elsewhere, made safe to show. Completions are hostile: a model can be made to print anything."""

from __future__ import annotations

import re
import unicodedata

ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequences: colours, cursor, modes
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"  # titles, links, …
    r"|\x1b[ -/]*[0-~]?"
)
"""Terminal escape sequences in their 7-bit and 8-bit forms (ECMA-48), in time linear in the text."""


def safe(text: str) -> str:
    """The text on one line, unable to move the cursor, to colour, or to reorder what is around it.

    Escape sequences and control characters are removed, line breaks become ``⏎``, and invisible
    format characters (bidirectional overrides, zero-width ones) are shown as ``⟨U+202E⟩``.
    """
    return "".join(map(_visible, ESCAPES.sub("", text)))


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters. The end is kept longer than the start: answers are there."""
    if len(text) <= limit:
        return text
    head = (limit - 3) // 3
    tail = limit - 3 - head
    return f"{text[:head]} … {text[-tail:]}"


def _visible(character: str) -> str:
    if character == "\n":
        return "⏎"
    if character == "\t":
        return " "
    category = unicodedata.category(character)
    if category == "Cc":
        return ""
    if category in ("Cf", "Cs", "Zl", "Zp"):
        return f"⟨U+{ord(character):04X}⟩"
    return character
