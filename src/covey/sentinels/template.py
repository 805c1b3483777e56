"""Prompts are rendered by the model's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Group


@dataclass(kw_only=True)
class Template(Sentinel):
    """Looks for the special tokens that the model's chat template puts into every prompt."""

    name: ClassVar[str] = "template"
    level: ClassVar[Level] = "stop"

    def blind(self) -> str | None:
        if not self.setting.template_tokens:
            return "the model has no chat template, or one without special tokens"
        return None

    def sampled(self, step: int, groups: Sequence[Group]) -> Finding | None:
        marks = self.setting.template_tokens
        prompts = [(g.problem.id, g.episodes[0].turns[0].context_ids) for g in groups if g.episodes]
        bare = [(name, ids) for name, ids in prompts if not marks.keys() & set(ids)]
        if not marks or not bare:
            return None
        name, ids = bare[0]
        return Finding(
            f"the chat template is not applied: {len(bare)} of {len(prompts)} prompts have none of its "
            "tokens",
            f"problem {name!r} begins with the ids {list(ids[:12])}; the template would have put in "
            + ", ".join(f"{text} (id {token})" for token, text in marks.items()),
            "the messages were tokenized as plain text, so an instruction-tuned model reads what it was "
            "never trained on: it rambles and seldom ends",
            "render prompts with the tokenizer's apply_chat_template (Chat.prompt); if plain text is meant, "
            'set [sentinels] template = "off"',
        )
