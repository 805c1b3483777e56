"""Conversations of several turns as ids that only ever grow.

What stands between two replies is found by rendering a conversation with a placeholder for the reply and
taking all that the template puts behind it: the end of the reply's turn, the new messages, and the
opening of the next reply. The ids of that, without the end token that was sampled already, are put behind
what was sampled. It is right for templates that leave what they have rendered as it is; others are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from covey.models import calls
from covey.models.chat import ChatFormat
from covey.types import CoveyError, Message

_REPLY = "qZ7reply7Zq"
_OPENING: Message = {"role": "user", "content": "?"}
_THINKING = "<think>\nq\n</think>\n\nr"


class Conversation(ChatFormat):
    """A `ChatFormat` that goes on after a reply, with tools in the model's own format.

    ``tools`` are JSON schemas; ``end_ids`` end a reply. ``family`` is the format of calls (`calls.family`).
    Raises CoveyError when the model has no chat template, or one that doesn't keep what it has rendered.
    """

    def __init__(
        self, tokenizer: Any, end_ids: Collection[int], tools: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(tokenizer)
        if not self.templated:
            raise CoveyError(
                "the model has no chat template, so nothing says where a turn ends: a task with an "
                "environment needs a model made for conversations"
            )
        self.end_ids, self.tools = frozenset(end_ids), [dict(tool) for tool in tools]
        self.family = calls.family(tokenizer.get_chat_template(tools=self.tools or None))
        self._told = self.tools if self.family != "plain" else []  # what the template is given
        self._check()

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids up to where the assistant is to speak, tools told of. Raises CoveyError as `after` does."""
        return self._ids(self._text(messages, reply=True))

    def after(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids between a reply's end token and the next reply.

        Raises CoveyError when the template refuses the messages, changes what stands before them, or puts
        no end token behind a reply.
        """
        behind = self._behind(_REPLY, messages)
        ids = self._ids(behind)
        if not ids or ids[0] not in self.end_ids:
            raise self._unfit(f"it puts no end token behind a reply, but {behind[:40]!r}")
        return ids[1:]

    def reply(self, ids: Sequence[int]) -> Message:
        """What sampled ids say: the text without special tokens, and the tool calls in it."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text(ids)}
        if self.tools:
            own = ids[:-1] if ids and ids[-1] in self.end_ids else ids
            if found := calls.calls(self.family, self.raw(own)):
                message["tool_calls"] = found
        return message

    def _check(self) -> None:
        """Whether conversations as they will be had are kept as they grow, thinking included."""
        more: list[Message] = [{"role": "user", "content": "!"}]
        if self.tools:
            more = [{"role": "tool", "name": "t", "content": "!"}]
        if self._behind(_THINKING, more) != self._behind(_REPLY, more):
            raise self._unfit("what it puts behind a reply depends on the reply")
        self.after(more)
        if self.tools:
            return  # some templates want calls as data there: what is rendered then is no reply of ours
        whole = self._text([_OPENING, _said(_REPLY), *more, _said(_THINKING), *more], reply=True)
        parts = [self._text([_OPENING], reply=True)]
        parts += [_REPLY, self._behind(_REPLY, more), _THINKING, self._behind(_REPLY, more)]
        if whole != "".join(parts):
            raise self._unfit("it renders a turn otherwise once others follow")

    def _behind(self, reply: str, messages: Sequence[Message]) -> str:
        """What the template puts behind a reply when these messages follow."""
        before = self._text([_OPENING], reply=True) + reply
        whole = self._text([_OPENING, _said(reply), *messages], reply=True)
        if not whole.startswith(before):
            raise self._unfit("it changes what it has rendered once more messages follow")
        return whole[len(before) :]

    def _as_told(self, messages: Sequence[Message]) -> list[Message]:
        """Messages as the template is to be given them: calls and results of tools as it knows them."""
        told: list[Message] = []
        for number, message in enumerate(messages):
            if self.family == "plain" and message.get("tool_calls"):
                called = "\n".join(calls.hermes(call["function"]) for call in message["tool_calls"])
                told.append({"role": message["role"], "content": message["content"] + called})
            elif message["role"] != "tool":
                told.append(message)
            elif self.family == "plain":
                content = f"<tool_response>\n{message['content']}\n</tool_response>"
                told.append({"role": "user", "content": content})
            else:
                told.append({"tool_call_id": f"call{number:05d}", **message})  # Mistral asks for nine letters
        return told

    def _text(self, messages: Sequence[Message], *, reply: bool) -> str:
        told = [dict(message) for message in self._as_told(messages)]
        if self.tools and self.family == "plain":
            description = calls.described(list(self.tools))
            if told and told[0]["role"] == "system":
                told[0]["content"] = f"{told[0]['content']}\n\n{description}"
            else:
                told.insert(0, {"role": "system", "content": description})
        return self._render(told, tools=self._told or None, add_generation_prompt=reply, tokenize=False)

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _unfit(self, why: str) -> CoveyError:
        return CoveyError(
            f"the model's chat template doesn't suit a conversation of several turns: {why}. Sampled tokens "
            "are never rendered again, so turns must stay as they were; give the tokenizer a template that "
            "only appends (one that keeps earlier <think> parts)"
        )


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}
