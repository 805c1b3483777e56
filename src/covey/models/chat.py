"""Messages to token ids, through the model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covey.types import CoveyError, Message


class ChatFormat:
    """Renders prompts once, as ids. What the policy answers is kept as ids and never rendered again."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.templated = bool(tokenizer.chat_template)

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids of a conversation up to where the assistant is to speak.

        A base model without a template reads the messages' text, one after the other.
        Raises CoveyError when the template refuses the messages.
        """
        if not self.templated:
            text = "\n".join(str(m["content"]) for m in messages)
            return tuple(self.tokenizer(text, add_special_tokens=True)["input_ids"])
        return self._rendered(messages)

    def marks(self) -> dict[int, str]:
        """The special tokens that the template, and nothing else, puts into every prompt: id → text.

        Empty without a template, and where it refuses a plain question.
        """
        if not self.tokenizer.chat_template:
            return {}
        try:
            prompts = [set(self._rendered([{"role": "user", "content": text}])) for text in ("a", "b")]
        except CoveyError:
            return {}
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        plain = set(self.tokenizer("a", add_special_tokens=True)["input_ids"])
        return {token: self.raw([token]) for token in sorted((special & set.intersection(*prompts)) - plain)}

    def text(self, ids: Sequence[int]) -> str:
        """What the ids say, without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def raw(self, ids: Sequence[int]) -> str:
        """What the ids say, special tokens written out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def _rendered(self, messages: Sequence[Message]) -> tuple[int, ...]:
        rendered = self._render(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
        return tuple(rendered["input_ids"])

    def _render(self, messages: Sequence[Message], **how: Any) -> Any:
        """What the template makes of messages. Raises CoveyError when it refuses them."""
        try:
            return self.tokenizer.apply_chat_template([dict(m) for m in messages], **how)
        except Exception as error:  # the template is the model's own program: anything may be raised
            roles = ", ".join(str(m.get("role")) for m in messages)
            raise CoveyError(
                f"the model's chat template refused a prompt with the roles [{roles}]: {error}. "
                "Check the prompt's roles against the template (some allow no system message)."
            ) from error
