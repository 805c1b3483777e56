"""Different problems get different answers."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group

WORDS = 24
"""Completions of fewer words are left alone: short answers are rightly alike."""
SKETCH = 32
"""Hashes that are kept of a completion: the smallest of its runs of `RUN` words."""
RUN = 4
ALIKE = 0.8
"""The share of runs in common, as the sketches tell it, from which two completions are near-duplicates."""

_WORD = re.compile(r"\w+")


@dataclass(kw_only=True)
class Duplicates(Sentinel):
    """Finds a text that the policy gives to many problems.

    share: of a step's completions of `WORDS` words or more, so many that are nearly the same as one to
    another problem are a policy that has stopped reading. Numbers count as alike, so that a template filled
    with others is the same text. Nearly the same: four fifths of the runs of four words are in common.
    """

    name: ClassVar[str] = "duplicates"
    level: ClassVar[Level] = "warn"

    share: float = 0.5

    def sampled(self, step: int, groups: Sequence[Group]) -> Finding | None:
        long: list[tuple[str, str, frozenset[int]]] = []
        for group in groups:
            for episode in group.episodes:
                words = _WORD.findall(re.sub(r"\d+", "0", episode.text.lower()))
                if len(words) >= WORDS:
                    long.append((group.problem.id, episode.text, sketch(words)))
        pairs = near(long)
        if len({problem for problem, _, _ in long}) < 2 or len(pairs) < max(self.share * len(long), 2):
            return None
        first = min(pairs)
        (one, text, _), (other, again, _) = long[first], long[pairs[first]]
        return Finding(
            f"{len(pairs)} of {len(long)} long completions are nearly the same as one to another problem",
            f"to {one!r}: {text[:80]!r}; to {other!r}: {again[:80]!r}",
            "the reward is earned by a text that doesn't depend on the problem: form, length or phrases pay, "
            "or a judge is flattered",
            "read the two; try the grader with covey reward test, make form a gate instead of a bonus, and "
            "keep an oracle beside the reward",
        )


def sketch(words: Sequence[str]) -> frozenset[int]:
    """The smallest hashes of a text's runs of words."""
    runs = {" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}
    digests = (hashlib.blake2b(run.encode("utf-8", "replace"), digest_size=8).digest() for run in runs)
    return frozenset(sorted(int.from_bytes(digest) for digest in digests)[:SKETCH])


def near(texts: Sequence[tuple[str, str, frozenset[int]]]) -> dict[int, int]:
    """Index → that of a near-duplicate to another problem, for each of (problem, text, sketch) that has one.

    Only those are compared that share one of their four smallest hashes, which of two texts with four fifths
    in common all but one in 600 do (0.2⁴).
    """
    places: dict[int, list[int]] = defaultdict(list)
    found: dict[int, int] = {}
    for index, (problem, _, own) in enumerate(texts):
        smallest = sorted(own)[:4]
        candidates = {other for value in smallest for other in places[value][:16]}
        for other in sorted(candidates):
            if texts[other][0] != problem and likeness(own, texts[other][2]) >= ALIKE:
                found.setdefault(index, other)
                found.setdefault(other, index)
        for value in smallest:
            if all(texts[other][0] != problem for other in places[value]):
                places[value].append(index)  # one for a problem is enough to compare with
    return found


def likeness(one: frozenset[int], other: frozenset[int]) -> float:
    """The share of all runs that two texts have in common, as far as their sketches tell."""
    smallest = set(sorted(one | other)[:SKETCH])
    return len(smallest & one & other) / len(smallest) if smallest else 0.0
