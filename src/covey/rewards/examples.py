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

EXPRESSIONS = (
    _problem("24", "Make 24 of 3, 5 and 9.", "9 + 3 * 5", numbers=[3, 5, 9], target=24),
    _problem("13", "Make 13 of 2, 4 and 30.", "30 / 2 - 4 + 2", numbers=[2, 2, 4, 30], target=13),
    _problem("100", "Make 100 of 25 and 4.", "25 * 4", numbers=[4, 25], target=100),
)


def _gym(task: str, question: str, answer: str) -> Problem:
    entry = {"question": question, "answer": answer, "metadata": {}}
    return _problem(
        answer, question, answer, gym_task=task, gym_settings={}, gym_entry=entry, answer_in="tags"
    )


GYM = (
    _gym("chain_sum", "State the final answer to the following arithmetic problem: 4 + 3 =", "7"),
    _gym("gcd", "Find the Greatest Common Divisor (GCD) of these numbers: 1170, 91.", "13"),
)

EXAMPLES: Mapping[str, tuple[Problem, ...]] = {
    "choice": CHOICES,
    "code": PROGRAMS,
    "countdown": EXPRESSIONS,
    "reasoning_gym": GYM,
}
"""For the rewards of these names; `NUMBERS` for all others."""
