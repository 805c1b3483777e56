"""Some completions end by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group, Update


@dataclass(kw_only=True)
class EndToken(Sentinel):
    """Counts completions since one last ended with an end token. ``completions`` in a row without,
    step by step, are as good as never. Where there is room for one token only, nothing is watched."""

    name: ClassVar[str] = "end_token"
    level: ClassVar[Level] = "stop"

    completions: int = 512
    unended: int = field(init=False, default=0)

    def blind(self) -> str | None:
        return "completions have room for one token" if self.setting.max_new_tokens < 2 else None

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> Finding | None:
        count = self._unended(update.metrics)
        if self.setting.max_new_tokens < 2 or not count or count < self.completions:
            return None
        ends = ", ".join(f"{text} (id {token})" for token, text in self.setting.end_tokens.items()) or "none"
        return Finding(
            f"no completion ends: the last {count} were all cut off",
            f"at {self.setting.max_new_tokens} tokens; end tokens are {ends}; {self._inside(groups)}",
            "the token that ends the model's turns isn't among the end tokens, the chat template isn't what "
            "the model was trained with, or rollout.max_new_tokens leaves no room for an answer",
            "read a completion with its special tokens; add the missing end token to the model's "
            "generation_config.json, or raise rollout.max_new_tokens",
        )

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        self.unended = self._unended(metrics)

    def _unended(self, metrics: Mapping[str, float]) -> int:
        if metrics.get("truncated") != 1.0:
            return 0
        return self.unended + int(metrics.get("episodes", 0))

    def _inside(self, groups: Sequence[Group]) -> str:
        """Which of the template's tokens the policy writes and goes on: the likeliest missing end token."""
        marks = self.setting.template_tokens
        replies = [set(t.completion.token_ids) for g in groups for e in g.episodes for t in e.turns]
        count = Counter(token for ids in replies for token in ids & marks.keys())
        if not count:
            return "no completion of this step holds a token of the chat template"
        token, times = count.most_common(1)[0]
        return f"{times} completions of this step hold {marks[token]} (id {token}) and go on"
