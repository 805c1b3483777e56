"""The work that systems are given: the same prompts, the same forced lengths."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """``lengths`` has one entry a sequence, group after group."""

    name: str
    problems: int
    group_size: int
    lengths: tuple[int, ...]

    @classmethod
    def even(cls, problems: int, group_size: int, length: int) -> Case:
        """Every reply is ``length`` tokens long."""
        count = problems * group_size
        return cls(f"{problems}x{group_size}x{length}", problems, group_size, (length,) * count)

    @classmethod
    def uneven(cls, problems: int, group_size: int, low: int, high: int) -> Case:
        """Most replies are short and a few very long, see `long_tailed`."""
        lengths = long_tailed(problems * group_size, low, high)
        return cls(f"{problems}x{group_size}x{low}-{high}", problems, group_size, tuple(lengths))

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    def groups(self, prompts: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
        """What a worker is asked for: each group's prompt and its replies' lengths."""
        size = self.group_size
        return [
            {"prompt_ids": list(prompts[p]), "lengths": list(self.lengths[p * size : (p + 1) * size])}
            for p in range(self.problems)
        ]


def long_tailed(count: int, low: int, high: int) -> list[int]:
    """The quantiles of a Pareto distribution (exponent 1.1) from ``low`` on, cut at ``high``, in a fixed
    random order: half of the lengths are below twice the lowest."""
    quantiles = [low * (1 - (i + 0.5) / count) ** (-1 / 1.1) for i in range(count)]
    lengths = [min(high, round(q)) for q in quantiles]
    random.Random(0).shuffle(lengths)
    return lengths


def ragged(count: int, low: int, high: int) -> list[int]:
    """Lengths spread evenly from ``low`` to ``high``, both included, in a fixed random order."""
    lengths = [low + round(i * (high - low) / max(count - 1, 1)) for i in range(count)]
    random.Random(0).shuffle(lengths)
    return lengths
