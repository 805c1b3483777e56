"""An own task: any class with ``problems(split)``. In a recipe: ``task = "examples/own_task.py:Reverse"``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from covey.types import Problem


class Reverse:
    """Write a word backwards. Every fifth word is held out: no problem is in both splits."""

    def __init__(self, letters: str = "abc", length: int = 3) -> None:
        self.words = ["".join(w) for w in itertools.product(letters, repeat=length)]

    def problems(self, split: str) -> Sequence[Problem]:
        mine = [w for i, w in enumerate(self.words) if (i % 5 == 0) == (split == "heldout")]
        return [Problem(w, ({"role": "user", "content": f"Reverse {w}"},), w[::-1]) for w in mine]


def overlap(completions: list[str], answer: list[str], **columns) -> list[float]:
    """Its reward: the share of places that are right. ``reward = "examples/own_task.py:overlap"``."""
    return [
        sum(x == y for x, y in zip(text, gold, strict=False)) / len(gold)
        for text, gold in zip(completions, answer, strict=True)
    ]
