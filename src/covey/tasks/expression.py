"""Arithmetic worked out exactly, by a parser of its own: what a policy writes is never run.

``+ - * / // % **`` and parentheses over decimal numbers, with Python's precedence; ``×``, ``÷``, ``−`` and
``^`` are read as ``*``, ``/``, ``-`` and ``**``. Values are fractions. Time and memory are bounded by
`LONGEST`, `DEEPEST` and `BITS`.
"""

from __future__ import annotations

import re
from fractions import Fraction

LONGEST = 500  # characters
DEEPEST = 50  # parentheses and signs inside each other
BITS = 4000  # of a numerator or denominator

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|(\*\*|//|[-+*/%()]))", re.ASCII)
_ALIASES = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})


def evaluate(text: str) -> Fraction:
    """The value of an expression. Raises ValueError that says what is wrong with it."""
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    parser = _Parser(_tokens(text.translate(_ALIASES).replace("^", "**")))
    value = parser.sum(0)
    if parser.tokens:
        raise ValueError(f"{parser.tokens[-1]!r} isn't expected there")
    return value


def written(value: Fraction) -> str:
    """A whole number, a decimal number where it ends within 30 places, or a fraction ``p/q``: exactly."""
    if value.denominator == 1:
        return str(value.numerator)
    for places in range(1, 31):
        if 10**places % value.denominator == 0:
            digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
            return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    return f"{value.numerator}/{value.denominator}"


def _tokens(text: str) -> list[str]:
    """The last one first, so that the next is popped."""
    found, at, text = list[str](), 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text[at:].strip()[:1]!r} is no part of arithmetic")
        found.append(match[1] or match[2])
        at = match.end()
    return found[::-1]


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while (operation := self._take("+", "-")) is not None:
            other = self.product(depth)
            value = _bounded(value + other if operation == "+" else value - other)
        return value

    def product(self, depth: int) -> Fraction:
        value = self.signed(depth)
        while (operation := self._take("*", "//", "/", "%")) is not None:
            other = self.signed(depth)
            if operation != "*" and not other:
                raise ValueError("division by zero")
            if operation == "*":
                value = _bounded(value * other)
            elif operation == "/":
                value = _bounded(value / other)
            else:
                value = Fraction(value // other) if operation == "//" else _bounded(value % other)
        return value

    def signed(self, depth: int) -> Fraction:
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        sign = self._take("-", "+")
        if sign is None:
            return self.power(depth)
        value = self.signed(depth + 1)
        return -value if sign == "-" else value

    def power(self, depth: int) -> Fraction:
        base = self.atom(depth)
        if self._take("**") is None:
            return base
        exponent = self.signed(depth + 1)  # from the right: 2**3**2 is 2**9
        return _power(base, exponent)

    def atom(self, depth: int) -> Fraction:
        if self._take("(") is not None:
            value = self.sum(depth + 1)
            if self._take(")") is None:
                raise ValueError("a parenthesis isn't closed")
            return value
        if not self.tokens:
            raise ValueError("it ends where a number should stand")
        token = self.tokens.pop()
        if not (token[0].isdigit() or token[0] == "."):
            raise ValueError(f"{token!r} stands where a number should")
        return Fraction(token)

    def _take(self, *wanted: str) -> str | None:
        return self.tokens.pop() if self.tokens and self.tokens[-1] in wanted else None


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise ValueError("an exponent must be whole")
    if not base and exponent < 0:
        raise ValueError("division by zero")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits > 1 and abs(exponent) * bits > BITS:  # 0 and ±1 stay what they are
        raise ValueError("the number is too large")
    if bits <= 1:
        exponent = Fraction(exponent % 2 if exponent and base < 0 else bool(exponent))
    return base**exponent.numerator


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
        raise ValueError("the number is too large")
    return value
