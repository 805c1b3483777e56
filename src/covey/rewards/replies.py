"""Replies whose worth is known: gold ones in the forms people ask for, and degenerate ones.

A degenerate reply is what a policy can give to any problem without solving it, or a wrong answer that looks
like the right one. None of them may earn what a right answer does.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from covey.types import Problem

FORMS: dict[str, str] = {
    "bare": "{}",
    "sentence": "The answer is {}.",
    "boxed": "So the answer is \\boxed{{{}}}.",
    "hashes": "I work it out step by step.\n#### {}",
    "answer tag": "<answer>{}</answer>",
    "think and answer tags": "<think>\nI work it out step by step.\n</think>\n<answer>\n{}\n</answer>",
    "dollars": "${}$",
    "bold": "**{}**",
    "code block": "Here is the program:\n\n```python\n{}\n```",
}
"""Name → how an answer is written down."""

OWN = "column good"
_INTEGER = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
_LETTER = re.compile(r"[A-Z]")
_COPIED = (
    "Think step by step and put your final answer in \\boxed{}.\n"
    "<think> reasoning process here </think> <answer> answer here </answer>\n#### answer"
)


@dataclass(frozen=True)
class Reply:
    """A reply to try: of which kind, in which form, and its text."""

    kind: str
    form: str
    text: str

    @property
    def name(self) -> str:
        return self.kind if self.form == "bare" else f"{self.kind} ({self.form})"


def gold(problem: Problem) -> list[Reply]:
    """The gold answer in every form, and the replies in the row's column ``good``."""
    answer = problem.answer
    written = FORMS.items() if answer is not None and answer.strip() else ()
    return [
        *(Reply("gold", form, text.format(answer)) for form, text in written),
        *(Reply("gold", OWN, text) for text in _texts(problem.columns.get("good"))),
    ]


def degenerate(problem: Problem, others: Sequence[str], forms: Sequence[str]) -> list[Reply]:
    """Degenerate replies, plain and in each of ``forms``; and those in the row's column ``bad``.

    ``others`` are answers to other problems, to be listed with this one's. What happens to be a gold reply
    is left out.
    """
    right = {reply.text for reply in gold(problem)}
    replies = [Reply("column bad", "bare", text) for text in _texts(problem.columns.get("bad"))]
    for kind, items in (*_single(problem), *_listed(problem, others)):
        for form in dict.fromkeys(("bare", *forms)):
            if form == OWN:
                continue
            whole = FORMS[form].format(", ".join(items))
            replies.append(Reply(kind, form, whole))
            if len(items) > 1:
                replies.append(Reply(kind, f"{form}, each", "\n".join(FORMS[form].format(i) for i in items)))
    once = {reply.text: reply for reply in reversed(replies) if reply.text not in right}
    return list(reversed(once.values()))


def _single(problem: Problem) -> Iterator[tuple[str, list[str]]]:
    """(kind, [content]): what is no answer, or a wrong one."""
    answer = problem.answer or ""
    messages = [str(message["content"]) for message in problem.messages]
    yield "empty", [""]
    yield "blank", [" \n\t\u00a0 "]
    if messages:
        yield "the question repeated", [messages[-1]]
        yield "all instructions copied", ["\n".join([*messages, _COPIED])]
    for text in ("1/0", "0/0", "nan", "inf", "-inf", "None", "null", "[]", "{}"):
        if text != answer:
            yield text, [text]
    yield "very long", ["x" * 100_000]
    yield "a very long number", ["9" * 100_000]
    yield "very many words", ["and so it goes on " * 5_000]
    yield "very deep brackets", ["(" * 5_000]
    yield "hostile Unicode: accents only", ["\u0301" * 1_000]
    yield "hostile Unicode: nothing to see", ["\u200b\u2060\ufeff" * 300]
    yield "hostile Unicode: NUL and controls", ["\x00\x07\x1b[2J" * 100]
    if answer[::-1] != answer and "\n" not in answer:
        yield "hostile Unicode: written backwards", ["\u202e" + answer[::-1]]
    for text in _near(answer):
        yield "a wrong answer that holds the right one", [text]


def _near(answer: str) -> list[str]:
    """Wrong answers that have the right one in them."""
    if _INTEGER.fullmatch(answer) or _DECIMAL.fullmatch(answer):
        digits = answer.lstrip("-")
        sign = "" if answer.startswith("-") else "-"
        found = [f"1{digits}", f"{sign}{digits}", f"{answer}1"]
        if _INTEGER.fullmatch(answer):
            found += [f"{answer}.5", f"0.{digits}", f"{answer}e1"]
        return [text for text in found if float(text) != float(answer)]
    if not answer.strip() or "\n" in answer or _LETTER.fullmatch(answer):
        return []
    return [f"x{answer}x"]


def _listed(problem: Problem, others: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(kind, contents): everything that might be right, with the right one among it.

    Of options there are few enough to list them all in one order, whichever is right; of other answers the
    right one is neither first nor last, since whoever could put it there would know it.
    """
    answer = problem.answer or ""
    if _LETTER.fullmatch(answer):
        yield "every option at once", [chr(code) for code in range(ord("A"), max(ord("D"), ord(answer)) + 1)]
        return
    if _INTEGER.fullmatch(answer):
        numbers = [str(n) for n in range(-20, 101) if str(n) != answer]
        random.Random(0).shuffle(numbers)
        yield "every number at once", [*numbers[:60], answer, *numbers[60:]]
    different = [other for other in dict.fromkeys(others) if other != answer]
    if answer and "\n" not in answer and len(different) > 1:
        half = len(different) // 2
        yield "every answer of the data at once", [*different[:half], answer, *different[half:]]


def _texts(given: Any) -> list[str]:
    """A column that has a text or several."""
    return [given] if isinstance(given, str) else [str(text) for text in given or () if isinstance(text, str)]
