"""Language consistency: the share of a reply's words that are in the target language.

R1 adds it to accuracy and format against replies that mix languages (arXiv 2501.12948, eq. 7:
Num(words in the target language) / Num(words)). The paper doesn't say how a word's language is found. Here it
is its script, which tells Chinese from English and Russian from both, and French from English never.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from covey.types import CoveyError, Episode, Score

SCRIPTS: dict[str, frozenset[str]] = {
    **{code: frozenset({"LATIN"}) for code in ("en", "de", "es", "fr", "it", "nl", "pl", "pt", "tr", "vi")},
    **{code: frozenset({"CYRILLIC"}) for code in ("bg", "ru", "uk")},
    "ar": frozenset({"ARABIC"}),
    "el": frozenset({"GREEK"}),
    "fa": frozenset({"ARABIC"}),
    "he": frozenset({"HEBREW"}),
    "hi": frozenset({"DEVANAGARI"}),
    "ja": frozenset({"CJK", "HIRAGANA", "KATAKANA"}),
    "ko": frozenset({"HANGUL", "CJK"}),
    "th": frozenset({"THAI"}),
    "zh": frozenset({"CJK"}),
}
"""ISO 639-1 code → the scripts it is written in, as Unicode's character names begin."""

NO_SPACES = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI"})
"""Written without blanks between words: here each character counts as one."""

_NO_WORDS = re.compile(r"</?[A-Za-z][\w-]*>|\\[A-Za-z]+")  # tags and LaTeX commands


@dataclass(frozen=True)
class Language:
    """The share of words in the script of ``language`` (ISO 639-1), 0 to 1; 0.0 for a reply without words.

    A word is a run of letters of one script; of scripts without blanks, each character. Digits, signs, tags
    and LaTeX commands are no words.

    Raises:
        CoveyError: a language whose script isn't known here.
    """

    shaping: ClassVar[bool] = True

    language: str = "en"

    def __post_init__(self) -> None:
        if self.language not in SCRIPTS:
            raise CoveyError(f"unknown language {self.language!r}; there are: {', '.join(sorted(SCRIPTS))}")

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [Score(self._share(episode.text)) for episode in episodes]

    def _share(self, text: str) -> float:
        words = list(scripts(_NO_WORDS.sub(" ", text)))
        return sum(word in SCRIPTS[self.language] for word in words) / len(words) if words else 0.0


def scripts(text: str) -> Iterator[str]:
    """The script of each word."""
    last = ""
    for character in text:
        script = _script(character)
        if script is None:
            continue  # accents and joiners belong to the letter before
        if script and (script != last or script in NO_SPACES):
            yield script
        last = script


@lru_cache(1 << 16)
def _script(character: str) -> str | None:
    """A letter's script, "" for what is no letter, None for what only modifies one."""
    if unicodedata.category(character) in ("Mn", "Mc", "Cf"):
        return None
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "UNKNOWN").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ")
    return name.partition(" ")[0].partition("-")[0]
