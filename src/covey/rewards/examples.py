"""Problems to try a reward on when there is no data at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covey.types import Problem


def _problem(name: str, question: str, answer: str | None, **columns: Any) -> Problem:
    return Problem(name, ({"role": "user", "content": question},), answer, columns)


NUMBERS = (
    _problem("sum", "What is 17 + 25?", "42"),
    _problem("apples", "A shop sells 120 apples a day. How many are that in 7 days?", "840"),
    _problem("change", "I pay 20 for 3 tickets at 4 each. What do I get back?", "8"),
    _problem("page", "A book has 1234 pages and I have read 191. How many are left?", "1043"),
)

CHOICES = (
    _problem("capital", "Which city is in France?\nA) Rome\nB) Paris\nC) Madrid\nD) Bonn", "B"),
    _problem("even", "Which number is even?\nA) 4\nB) 7\nC) 9\nD) 11", "A"),
    _problem("planet", "Which is no planet?\nA) Mars\nB) Venus\nC) Saturn\nD) Sirius", "D"),
)

_DOUBLE = "def double(n):\n    return 2 * n"
_JOIN = "def join(words):\n    return '-'.join(words)"
PROGRAMS = (
    _problem(
        "double",
        "Write a function double(n) that returns twice n.",
        _DOUBLE,
        entry_point="double",
        cases=[{"input": [3], "output": 6}, {"input": [-4], "output": -8}, {"input": [0], "output": 0}],
    ),
    _problem(
        "join",
        "Write a function join(words) that puts a - between words.",
        _JOIN,
        entry_point="join",
        cases=[{"input": [["a", "b"]], "output": "a-b"}, {"input": [[]], "output": ""}],
    ),
)

EXAMPLES: Mapping[str, tuple[Problem, ...]] = {"choice": CHOICES, "code": PROGRAMS}
"""For the rewards of these names; `NUMBERS` for all others."""
