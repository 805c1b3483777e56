"""Tools a policy may call, and the environment in which it does.

A `Tool` has a JSON schema, which the model reads in its own format, and answers a call with text. What a
call gets wrong is answered with ``error: …``: the policy may try again. What breaks here, such as a machine
without a sandbox, raises.
"""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covey import sandbox
from covey.tasks.errors import unknown
from covey.tasks.expression import evaluate, written
from covey.types import CoveyError, Message, Problem

MOST_CALLS = 4  # in one reply; further ones are told so
LONGEST_ANSWER = 2_000  # characters
LARGEST_FOLDER = 20 << 20  # bytes of text


@dataclass(frozen=True)
class Tool:
    """``parameters`` are the JSON schema's properties, all of them texts and all required. ``note`` is said
    when a run starts."""

    name: str
    description: str
    parameters: Mapping[str, str]
    run: Callable[..., str]
    note: str = ""

    def schema(self) -> dict[str, Any]:
        properties = {name: {"type": "string", "description": says} for name, says in self.parameters.items()}
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": {"type": "object", "properties": properties, "required": list(self.parameters)},
        }
        return {"type": "function", "function": function}

    def answer(self, arguments: Mapping[str, Any]) -> str:
        """What the tool says to these arguments, cut off at `LONGEST_ANSWER` characters."""
        if arguments.keys() != self.parameters.keys():
            return f"error: {self.name} takes {', '.join(self.parameters)}"
        if not all(isinstance(value, str | int | float) for value in arguments.values()):
            return f"error: {self.name} takes texts"
        said = self.run(**{name: str(value) for name, value in arguments.items()})
        return said if len(said) <= LONGEST_ANSWER else said[:LONGEST_ANSWER] + " …"


class ToolUse:
    """An environment that answers tool calls; the first reply without one is the answer and ends it."""

    def __init__(self, problem: Problem, tools: Mapping[str, Tool]) -> None:
        self.problem, self.tools = problem, tools

    def first(self) -> Sequence[Message]:
        return self.problem.messages

    def step(self, reply: Message) -> Sequence[Message] | None:
        calls = reply.get("tool_calls")
        if not calls:
            return None
        return [
            {"role": "tool", "name": str(call.get("name", "")), "content": self._answer(place, call)}
            for place, call in enumerate(calls[: MOST_CALLS + 1])
        ]

    def _answer(self, place: int, call: Mapping[str, Any]) -> str:
        if place == MOST_CALLS:
            return f"error: at most {MOST_CALLS} calls in one reply are answered"
        if "error" in call:
            return f"error: {call['error']}"
        tool = self.tools.get(call["name"])
        if tool is None:
            return f"error: there is no such tool; there are: {', '.join(self.tools)}"
        return tool.answer(call["arguments"])


def calculator() -> Tool:
    """Exact arithmetic; see `covey.tasks.expression`."""

    def run(expression: str) -> str:
        try:
            return written(evaluate(expression))
        except ValueError as error:
            return f"error: {error}"

    return Tool("calculator", "Works out arithmetic exactly.", {"expression": "such as 12*(3+4)"}, run)


def python(seconds: float = 3.0, memory_mb: int = 512) -> Tool:
    """A fresh program for each call, in the sandbox; it answers with what was printed.

    Raises CoveyError when no sandbox works here.
    """
    limits = sandbox.Limits(seconds=seconds, memory_mb=memory_mb)

    def run(code: str) -> str:
        outcome = sandbox.run(code, limits=limits)
        if outcome.status == "ok":
            return outcome.stdout.rstrip("\n") or "(nothing was printed)"
        last = outcome.stderr_tail.strip().rsplit("\n", 1)[-1]
        return f"{outcome.stdout}error: {outcome.status}{': ' + last if last else ''}"

    says, where = "Runs a Python program and returns what it prints.", sandbox.describe(whole=True)
    return Tool("python", says, {"code": "the program"}, run, where)


def search(folder: str, results: int = 3) -> Tool:
    """The paragraphs of a folder's ``.txt`` and ``.md`` files that fit a query best, by BM25.

    Raises CoveyError when there is no such folder, no text in it, too much, or a link that leads out of it.
    """
    paragraphs = _paragraphs(Path(folder))
    index = _Index([text for _, text in paragraphs])

    def run(query: str) -> str:
        found = index.best(query, results)
        return "\n\n".join(f"[{paragraphs[i][0]}] {paragraphs[i][1]}" for i in found) or "nothing found"

    return Tool("search", "Searches a collection of texts.", {"query": "a few words"}, run)


TOOLS: dict[str, Callable[..., Tool]] = {"calculator": calculator, "python": python, "search": search}


def toolbox(wanted: Sequence[str | Mapping[str, Any]], where: str) -> dict[str, Tool]:
    """Tools by name, each ``"calculator"`` or ``{name = "search", folder = "notes"}``.

    Raises CoveyError for an unknown name or parameter, and where a tool can't work.
    """
    tools: dict[str, Tool] = {}
    for one in [wanted] if isinstance(wanted, str | Mapping) else wanted:
        given = {"name": one} if isinstance(one, str) else dict(one)
        name = str(given.pop("name", ""))
        if name not in TOOLS:
            raise unknown(where, "tool", name, TOOLS)
        try:
            inspect.signature(TOOLS[name]).bind(**given)
        except TypeError as error:
            raise CoveyError(f"{where}: tool {name!r}: {error}") from error
        tools[name] = TOOLS[name](**given)
    if not tools:
        raise CoveyError(f"{where}: no tools; choose from {', '.join(TOOLS)}")
    return tools


def _paragraphs(folder: Path) -> list[tuple[str, str]]:
    """(file, text) of each paragraph, in the files' order by name."""
    if not folder.is_dir():
        raise CoveyError(f"search: there is no folder {folder}")
    root, size, found = folder.resolve(), 0, list[tuple[str, str]]()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".txt", ".md")):
        if not path.resolve().is_relative_to(root):
            raise CoveyError(f"search: {path} leads out of {folder}: take the link away")
        if not path.is_file():
            continue
        size += path.stat().st_size
        if size > LARGEST_FOLDER:
            raise CoveyError(f"search: the texts of {folder} are more than {LARGEST_FOLDER >> 20} MB")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise CoveyError(f"search: {path} isn't UTF-8 text: {error}") from error
        name = path.relative_to(folder).as_posix()
        found += [(name, " ".join(part.split())) for part in re.split(r"\n\s*\n", text) if part.strip()]
    if not found:
        raise CoveyError(f"search: {folder} has no text in .txt or .md files")
    return found


class _Index:
    """BM25 with its usual constants (Robertson and Zaragoza, 2009): k1 = 1.2, b = 0.75."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.counts = [Counter(_words(text)) for text in texts]
        self.lengths = [sum(count.values()) for count in self.counts]
        self.mean = sum(self.lengths) / len(texts)
        self.holding = Counter(word for count in self.counts for word in count)

    def best(self, query: str, most: int) -> list[int]:
        """Indices of the texts with a word of the query, the best first, ties in their order."""
        words = sorted(set(_words(query[:1_000])) & self.holding.keys())
        scores = [sum(self._weight(word, i) for word in words) for i in range(len(self.counts))]
        return [i for i in sorted(range(len(scores)), key=lambda i: -scores[i])[:most] if scores[i] > 0]

    def _weight(self, word: str, i: int) -> float:
        times, n, holding = self.counts[i][word], len(self.counts), self.holding[word]
        rarity = math.log(1 + (n - holding + 0.5) / (holding + 0.5))
        return rarity * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * self.lengths[i] / max(self.mean, 1)))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
