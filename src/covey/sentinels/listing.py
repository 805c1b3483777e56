"""A right answer is one answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group

_BETWEEN = r"(?:[\s,;|/&*()\[\]{}$]|\\boxed\{|or\b|and\b){1,12}"
_ONE = r"-?\d++(?:\.\d++)?"
NUMBERS = re.compile(rf"(?<![\d.]){_ONE}(?:{_BETWEEN}{_ONE}){{7,}}")
"""Eight numbers or more, with nothing but blanks, signs, ``or`` and ``and`` between them."""
LETTERS = re.compile(rf"(?<!\w)[A-J]\b(?:[.):]?{_BETWEEN}[A-J]\b){{2,}}")
"""Three letters of options or more, the same way."""
_NUMBER, _LETTER = re.compile(_ONE), re.compile(r"(?<!\w)[A-J]\b")

TAIL_CHARACTERS = 4096


@dataclass(kw_only=True)
class Listing(Sentinel):
    """Finds rewarded completions that only contain the gold answer by listing many.

    share: of a step's rewarded completions (those with its highest score, to problems whose answer is one
    number or one letter), so many that list it among others are a grader that is being fooled. A list is a
    run of eight different numbers or more, or of three different letters, in the last 4,096 characters,
    after which the answer doesn't come again.
    """

    name: ClassVar[str] = "listing"
    level: ClassVar[Level] = "warn"

    share: float = 0.1

    def sampled(self, step: int, groups: Sequence[Group]) -> Finding | None:
        scored = [
            (g.problem, e, s.value)
            for g in groups
            for e, s in zip(g.episodes, g.scores, strict=True)
            if s.value is not None and lister(g.problem.answer) is not None
        ]
        best = max((value for _, _, value in scored), default=0.0)
        rewarded = [(problem, episode) for problem, episode, value in scored if value == best > 0]
        found = [(p, e) for p, e in rewarded if lists(e.text, p.answer or "")]
        if not found or len(found) < max(self.share * len(rewarded), 2):
            return None
        shown = "; ".join(f"{e.text[-80:]!r} to {p.id!r}, where {p.answer!r} is right" for p, e in found[:2])
        return Finding(
            f"{len(found)} of the {len(rewarded)} completions with the highest reward list many answers",
            f"with reward {best:g}: {shown}",
            "the grader looks for the right answer anywhere in the text instead of reading the one that was "
            "given, and the policy has found out",
            "try the grader with covey reward test; let it read one place only (tag = answer), and give "
            "nothing for two answers",
        )


def lister(answer: str | None) -> tuple[re.Pattern[str], re.Pattern[str]] | None:
    """(what a list looks like, what its items do) for a gold answer of this kind; None for other kinds."""
    if answer is None:
        return None
    text = answer.strip()
    if _NUMBER.fullmatch(text):
        return NUMBERS, _NUMBER
    return (LETTERS, _LETTER) if _LETTER.fullmatch(text) else None


def lists(text: str, answer: str) -> bool:
    """Whether the answer stands in a list of different ones."""
    kinds = lister(answer)
    if kinds is None:
        return False
    listed, item = kinds
    least = 8 if item is _NUMBER else 3
    gold, tail = answer.strip(), text[-TAIL_CHARACTERS:]
    for match in listed.finditer(tail):
        items = set(item.findall(match.group()))
        if gold in items and len(items) >= least and gold not in item.findall(tail[match.end() :]):
            return True
    return False
