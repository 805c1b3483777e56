"""Rewards in TRL's form, which Covey takes as it is: the very same function on both sides."""

from __future__ import annotations

from typing import Any


def characters(completions: list[Any], **_: Any) -> list[float]:
    """The length of the reply: practically every group has a signal, so both sides learn from all of it."""
    return [len(completion[0]["content"]) / 100 for completion in completions]


def number(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    """The exact number at the end, as Covey's reward of this name grades it."""
    from covey.rewards.number import last_number, parse_number

    return [
        float(last_number(completion[0]["content"]) == parse_number(gold))
        for completion, gold in zip(completions, answer, strict=True)
    ]
