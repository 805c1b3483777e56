"""Multiple choice: 1.0 when the reply settles on the gold letter and on no other, else 0.0.

What counts as settling on a letter, anywhere in the text:

- the whole of it, or its last line, is the letter: ``B``, ``(B)``, ``B.``, ``**B**``
- its last line begins with the letter as an option: ``B) Paris``, ``(B) Paris``, ``B. Paris``
- ``\\boxed{B}``, ``\\boxed{\\text{B}}``
- ``answer is B``, ``Answer: (B)``, ``choose B``, ``option B is correct``

Letters are capitals, since ``a`` is a word. Whoever settles on two letters has settled on none, whether
in one place (``A or B``) or in two, so listing all the options earns nothing; nor does naming a letter
without settling on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.rewards.answer import check_tag, final
from covey.rewards.gold import refused
from covey.types import CoveyError, Episode, Problem, Score

TAIL_CHARACTERS = 4096

_LETTER = r"(?<![A-Za-z0-9_])[A-Z](?![A-Za-z0-9_'’])"
_MARKED = rf"[*_(\[{{\"'“]{{0,3}}{_LETTER}[*_)\]}}\"'”]{{0,3}}"
_LIST = rf"{_MARKED}(?:\s{{0,3}}(?:[,;/&|+]|\bor\b|\band\b|\s)\s{{0,3}}(?:or\s|and\s)?{_MARKED})*"
_SAYS = re.compile(
    rf"(?i:\banswers?(?:\s+is|\s+are|\s*[:=])|\bchoose|\bpick|\bselect)\s*(?i:(?:option|choice|letter)s?\s+)?"
    rf"(?P<list>{_LIST})"
)
_CORRECT = re.compile(rf"(?i:\b(?:option|choice)s?)\s+(?P<list>{_LIST})\s+(?i:is|are)\s+(?i:correct|right)\b")
_BOXED = re.compile(r"\\boxed\s{0,3}\{(?:\\(?:text|mathrm|mathbf|textbf)\s{0,3}\{)?(?P<list>[^{}\\]{0,80})\}")
_WHOLE = re.compile(rf"\s*(?P<list>{_LIST})\s*[.):]?\s*")
_OPTION = re.compile(r"\s*[*_]{0,2}(?P<list>\([A-Z]\)|[A-Z][.):])[*_]{0,2}\s+\S")
_EACH = re.compile(_LETTER)


@dataclass(frozen=True)
class Choice:
    """1.0 when the reply settles on the letter ``Problem.answer`` and on no other, else 0.0.

    ``letters`` are those that name options. With ``tag`` only what stands in the reply's one
    ``<tag>…</tag>`` is read, otherwise its last 4,096 characters. The score is None when the gold answer is
    no such letter, which `check` refuses before a run; ``(B)`` and ``B.`` are read as ``B``.
    """

    checks_all: ClassVar[bool] = True

    letters: str = "ABCDEFGHIJ"
    tag: str | None = None

    def __post_init__(self) -> None:
        check_tag(self.tag)
        if not re.fullmatch(r"[A-Z]{2,}", self.letters) or len(set(self.letters)) < len(self.letters):
            raise CoveyError(f"letters are two capitals or more, each once, not {self.letters!r}")

    def check(self, problem: Problem) -> None:
        """Raise CoveyError when the problem's gold answer is no letter."""
        if reason := self._score("", problem.answer).error:
            raise refused(problem, reason)

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [self._score(episode.text, episode.problem.answer) for episode in episodes]

    def _score(self, text: str, answer: str | None) -> Score:
        gold = (answer or "").strip().strip("().:")
        if len(gold) != 1 or gold not in self.letters:
            return Score(None, error=f"the gold answer is none of the letters {self.letters}: {answer!r}")
        given = final(text, self.tag)
        return Score(float(given is not None and set(self.chosen(given)) == {gold}))

    def chosen(self, text: str) -> Iterator[str]:
        """Every letter that the text settles on, as often as it does."""
        text = text[-TAIL_CHARACTERS:]
        for pattern in (_SAYS, _CORRECT, _BOXED):
            for match in pattern.finditer(text):
                yield from self._letters(match["list"])
        lines = text.strip().splitlines()
        for part in {text, lines[-1] if lines else ""}:
            if match := _WHOLE.fullmatch(part):
                yield from self._letters(match["list"])
        if lines and (match := _OPTION.match(lines[-1])):
            for line in lines:  # the other options beside it, a line each, are a list of all of them
                if option := _OPTION.match(line):
                    yield from self._letters(option["list"])
            yield from self._letters(lines[-1] if _several(lines[-1]) else match["list"])

    def _letters(self, text: str) -> list[str]:
        return [letter for letter in _EACH.findall(text) if letter in self.letters]


def _several(line: str) -> bool:
    """Whether one line has options side by side: ``A) Rome B) Paris``."""
    return len(re.findall(r"\([A-Z]\)|(?<!\w)[A-Z][.):](?=\s|$)", line)) > 1
