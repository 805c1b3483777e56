"""The golden run's reward: dense, so that a model made of random numbers has something to learn at once."""

from __future__ import annotations


def digits(completions: list[str], **columns: list[object]) -> list[float]:
    """The share of the reply's characters that are digits; 0 for an empty reply."""
    return [sum(map(str.isdigit, reply)) / max(len(reply), 1) for reply in completions]
