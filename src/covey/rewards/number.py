"""The exact number at a reply's end: 1.0 when it equals the gold answer, else 0.0.

What counts as a number, and which one is read:

==========================  =========  ==================================================
text                        reads as   because
==========================  =========  ==================================================
``It is 83.``               83         the last number counts, wherever in the text it is
``83 apples``, ``83cm``     83         what follows a number doesn't matter
``\\boxed{83}``, ``**83**``  83         nor does what encloses it
``1,234.50``                1234.5     commas in groups of three are thousands
``1,2,3``, ``3,14``         3, 14      other commas separate a list; its last number counts
``.5``, ``007``, ``-0``     0.5, 7, 0
``1e3``, ``2.5E-2``         1000, .025 scientific notation
``-5``, ``x=−5``, ``-$5``   -5         a minus directly before the number is its sign …
``12-7``, ``3–5``, ``x-5``  7, 5, 5    … unless a digit, letter or closing bracket precedes it
``3 - 5``                   5          … or a space follows it
``1.2.3``                   none       two decimal points: no number, nor is an earlier one read
``3/4``, ``2^10``           4, 10      expressions are not worked out
==========================  =========  ==================================================

Digits are ASCII; minus is ``-``, ``−`` (U+2212) or ``–`` (U+2013). Numbers are compared exactly, as
fractions: ``0.1`` equals ``0.10`` and differs from ``0.1000000000000000055``. Time is linear in the
text read, which is its last 4,096 characters; a number of more than 1,000 digits, or an exponent
beyond ±1,000, is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from covey.rewards.gold import refused
from covey.types import Episode, Problem, Score

TAIL_CHARACTERS = 4096
MAX_DIGITS = 1000
MAX_EXPONENT = 1000

_NUMBER = re.compile(
    r"(?:(?P<minus>(?<![\w)\]}])[-−–])|\+)?"
    r"(?:\\?[$€£¥])?"
    r"(?P<digits>(?:(?<![\w.)\]}])\.)?[0-9]+(?:[.,][0-9]+)*)"
    r"(?:[eE](?P<exponent>[-−+]?[0-9]+))?"
)
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")


@dataclass(frozen=True)
class Number:
    """1.0 when the reply's last number equals ``Problem.answer``, else 0.0, truncated replies included.

    Without a gold answer, or with one that isn't a number, the score is None and says so; `check` refuses
    such a problem before a run.
    """

    checks_all: ClassVar[bool] = True

    def check(self, problem: Problem) -> None:
        """Raise CoveyError when the problem's gold answer is no number."""
        if reason := score("", problem.answer).error:
            raise refused(problem, reason)

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [score(episode.text, episode.problem.answer) for episode in episodes]


def score(text: str, answer: str | None) -> Score:
    """Grade one reply against its gold answer."""
    if answer is None:
        return Score(None, error="the problem has no gold answer")
    gold = parse_number(answer)
    if gold is None:
        return Score(None, error=f"the gold answer is not a number: {answer[:80]!r}")
    return Score(float(last_number(text) == gold))


def last_number(text: str) -> Fraction | None:
    """The number the text ends on, or None when it has none."""
    tail = text[-TAIL_CHARACTERS:]
    if len(text) > len(tail):
        tail = tail.lstrip("0123456789.,")  # what may be the rest of a number that was cut
    matches = list(_NUMBER.finditer(tail))
    return _value(matches[-1]) if matches else None


def only_number(text: str) -> Fraction | None:
    """The one number in a short text, or None when it has none or several."""
    return last_number(text) if len(list(_NUMBER.finditer(text[-TAIL_CHARACTERS:]))) == 1 else None


def parse_number(text: str) -> Fraction | None:
    """The number that the whole text is, blanks at its ends aside, or None."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or ("," in match["digits"] and not _THOUSANDS.fullmatch(match["digits"])):
        return None
    return _value(match)


def _value(match: re.Match[str]) -> Fraction | None:
    """A match's value: thousands joined, the last item of a list, None when malformed or too long."""
    negative, digits = bool(match["minus"]), match["digits"]
    if _THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    elif "," in digits:
        negative, digits = False, digits.rpartition(",")[2]
    exponent = (match["exponent"] or "0").replace("−", "-")
    if digits.count(".") > 1 or len(digits) > MAX_DIGITS:
        return None
    if len(exponent) > len(str(MAX_EXPONENT)) + 1 or abs(int(exponent)) > MAX_EXPONENT:
        return None
    value = Fraction(f"{digits}e{exponent}")
    return -value if negative else value
