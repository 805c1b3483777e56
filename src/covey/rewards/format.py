"""The form of a reply: R1's tags, reasoning in ``<think>`` and then ``<answer>`` (arXiv 2501.12948)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.rewards.answer import check_tag
from covey.types import CoveyError, Episode, Score


@dataclass(frozen=True)
class Format:
    """1.0 when the reply is its elements and nothing else, else 0.0.

    ``<think>…</think><answer>…</answer>``: each of ``tags`` once, in this order, none of them empty, with
    nothing but blanks around and between them. In `combine` it is a gate unless it is given a weight.
    """

    gates: ClassVar[bool] = True
    shaping: ClassVar[bool] = True

    tags: Sequence[str] = ("think", "answer")

    def __post_init__(self) -> None:
        if not self.tags or isinstance(self.tags, str) or len(set(self.tags)) < len(self.tags):
            raise CoveyError(f"tags are names, each once, not {self.tags!r}")
        for tag in self.tags:
            check_tag(tag)

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [Score(float(self._kept(episode.text))) for episode in episodes]

    def _kept(self, text: str) -> bool:
        if any(text.count(mark) != 1 for tag in self.tags for mark in (f"<{tag}>", f"</{tag}>")):
            return False
        rest = text
        for tag in self.tags:
            before, _, rest = rest.partition(f"<{tag}>")
            inside, closed, rest = rest.partition(f"</{tag}>")
            if before.strip() or not closed or not inside.strip():
                return False
        return not rest.strip()
