"""Countdown: make a target out of given numbers by + - * / (TinyZero: github.com/Jiayi-Pan/TinyZero)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from covey.protocols import Split
from covey.rewards.countdown import evaluate
from covey.tasks.errors import check_template
from covey.tasks.heldout import held_out
from covey.types import CoveyError, Message, Problem

PROMPT = (
    "Using the numbers {numbers}, write an expression that equals {target}. You may use + - * / and "
    "parentheses, and each number at most once. Give it as <answer>…</answer>."
)
TRIES = 200


class Countdown:
    """So many ``problems``, the held-out share among them; their columns are ``numbers`` and ``target``.

    Each is built from its solution, which is its answer: ``least`` to ``most`` numbers from ``low`` to
    ``high`` are joined two by two in a random order, as long as values stay whole and above 0 and the target
    within ``largest``. All numbers are in the solution. Problems with the same numbers, in any order, and
    the same target are one problem. The recipe's seed doesn't enter; ``seed`` does.

    Raises:
        CoveyError: a range is empty, a prompt lacks ``{numbers}`` or ``{target}``, or there aren't so many
            different problems.
    """

    def __init__(
        self,
        problems: int = 5000,
        least: int = 3,
        most: int = 4,
        low: int = 1,
        high: int = 99,
        largest: int = 999,
        heldout: float = 0.1,
        seed: int = 0,
        prompt: str = PROMPT,
        system: str | None = None,
    ) -> None:
        _check(problems, least, most, low, high, largest, seed, prompt)
        first: tuple[Message, ...] = ({"role": "system", "content": system},) if system else ()
        draw = random.Random(seed).random  # only random() is promised to give the same in every Python
        made: dict[str, Problem] = {}
        failures = 0
        while len(made) < problems:
            count = least + int(draw() * (most - least + 1))
            numbers = [low + int(draw() * (high - low + 1)) for _ in range(count)]
            solution = _solution(numbers, largest, draw)
            identity = solution and f"{','.join(map(str, sorted(numbers)))}={solution[1]}"
            if not solution or not identity or identity in made:
                failures += 1
                if failures > TRIES * problems:
                    raise CoveyError(
                        f"countdown: only {len(made)} of {problems} different problems were found with "
                        f"{least} to {most} numbers from {low} to {high}: ask for fewer, or widen the ranges"
                    )
                continue
            made[identity] = _problem(identity, numbers, solution, prompt, first)
        held = held_out(made.keys(), heldout, "countdown")
        self._problems: dict[Split, tuple[Problem, ...]] = {
            "train": tuple(problem for identity, problem in made.items() if identity not in held),
            "heldout": tuple(problem for identity, problem in made.items() if identity in held),
        }

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split."""
        return self._problems[split]


def _solution(numbers: Sequence[int], largest: int, draw: Callable[[], float]) -> tuple[str, int] | None:
    """An expression of all numbers, and what it comes to; None where the draws lead nowhere."""
    parts = [(str(number), number) for number in numbers]
    while len(parts) > 1:
        (one, a), (other, b) = (parts.pop(int(draw() * len(parts))) for _ in range(2))
        if b > a:
            (one, a), (other, b) = (other, b), (one, a)
        values = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if a % b == 0 else 0}
        fit = [sign for sign, value in values.items() if 0 < value <= largest * 10]
        if not fit:
            return None
        sign = fit[int(draw() * len(fit))]
        parts.append((f"({one} {sign} {other})", values[sign]))
    [(expression, value)] = parts
    return (expression[1:-1], value) if value <= largest else None


def _problem(
    identity: str, numbers: list[int], solution: tuple[str, int], prompt: str, first: tuple[Message, ...]
) -> Problem:
    expression, target = solution
    worked = evaluate(expression)
    if worked is None or worked[0] != target or sorted(worked[1]) != sorted(numbers):
        raise CoveyError(f"countdown: the solution of {identity} isn't one: {expression}")
    content = prompt.format(numbers=", ".join(map(str, numbers)), target=target)
    columns = {"numbers": numbers, "target": target}
    return Problem(identity, (*first, {"role": "user", "content": content}), expression, columns)


def _check(
    problems: int, least: int, most: int, low: int, high: int, largest: int, seed: int, prompt: str
) -> None:
    whole = {"problems": problems, "least": least, "low": low, "largest": largest}
    for name, value in {**whole, "most": most, "high": high, "seed": seed}.items():
        fewest = 0 if name == "seed" else 1
        if type(value) is not int or not fewest <= value <= 10**9:
            raise CoveyError(f"countdown: {name} must be a whole number from {fewest} on, not {value!r}")
    if not 2 <= least <= most <= 10:
        raise CoveyError(
            f"countdown: least and most are numbers to a problem, 2 to 10, not {least} and {most}"
        )
    if low > high:
        raise CoveyError(f"countdown: low must not be above high, but {low} > {high}")
    check_template("countdown", prompt, ("numbers", "target"))
