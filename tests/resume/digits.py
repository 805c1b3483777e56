"""A reward that varies from the first step on, so that losses aren't zero: the share of digits."""

from __future__ import annotations


def digits(completions: list[str]) -> list[float]:
    return [sum(c.isdigit() for c in text) / max(len(text), 1) for text in completions]
