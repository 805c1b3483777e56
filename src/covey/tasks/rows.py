"""From data rows to problems, whatever file they come from."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from covey.protocols import Split
from covey.tasks.errors import unknown
from covey.tasks.heldout import held_out, shuffled
from covey.types import CoveyError, Message, Problem

Final: TypeAlias = Literal["whole", "hashes", "boxed"]

HELDOUT_SHARE = 0.1
MAX_DEPTH = 50


@dataclass(frozen=True)
class Row:
    """A data row and where it stands, for messages: ``train.jsonl, line 3``."""

    where: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Columns:
    """Which columns hold what. ``answer`` None or empty: the data has no gold answers.

    An answer ``a.b`` is what the table in column ``a`` has under ``b``; the prompt's own column means its
    last message, an assistant's. ``final`` says what of it is the answer: the ``whole``, what follows
    ``####`` (``hashes``), or what stands in its last ``\\boxed{…}`` (``boxed``). ``system`` is put before
    a prompt that has no system message of its own.
    """

    prompt: str
    answer: str | None
    system: str | None
    final: Final = "whole"

    def read(self, rows: Iterable[Row], source: str) -> tuple[Problem, ...]:
        """One problem a row, in order.

        A prompt is a string, which becomes one user message, or a list of chat messages. The answer is
        ``str(value)``; a missing or empty one is None. ``Problem.columns`` are all columns but the prompt,
        as JSON values, since they are recorded; what JSON lacks (dates, bytes, NaN) becomes its text. The
        id is a hash of the row's prompt; a prompt's second row has ``#2`` after it.

        Raises:
            CoveyError: a column is missing, a prompt is empty or malformed, there are no rows, or none has
                an answer.
        """
        seen: Counter[str] = Counter()
        problems = tuple(self._problem(row, seen) for row in rows)
        if not problems:
            raise CoveyError(f"{source}: no rows, nothing to train or evaluate on")
        if self.answer and all(problem.answer is None for problem in problems):
            raise CoveyError(
                f"{source}: no row has an answer in column {self.answer!r}; for a reward that needs none, "
                f'set answer = ""'
            )
        return problems

    def _problem(self, row: Row, seen: Counter[str]) -> Problem:
        for name in filter(None, (self.prompt, self.answer)):
            if not found(row.data, name)[0]:
                raise unknown(row.where, "column", name, row.data)
        columns = _json_value(row.data, row.where)
        messages = _messages(columns.pop(self.prompt), f"{row.where}: column {self.prompt!r}")
        answer = found(row.data, self.answer)[1] if self.answer else None
        if self.answer == self.prompt:
            messages, answer = self._last(messages, row.where)
        digest = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:16]
        seen[digest] += 1
        if self.system and messages[0]["role"] != "system":
            messages = ({"role": "system", "content": self.system}, *messages)
        return Problem(
            id=digest if seen[digest] == 1 else f"{digest}#{seen[digest]}",
            messages=messages,
            answer=final_answer(_answer(answer), self.final, f"{row.where}: column {self.answer!r}"),
            columns=columns,
        )

    def _last(self, messages: tuple[Message, ...], where: str) -> tuple[tuple[Message, ...], str]:
        *prompt, last = messages
        if last["role"] != "assistant" or not prompt:
            raise CoveyError(f"{where}: column {self.prompt!r}: the last message isn't an assistant's answer")
        return tuple(prompt), last["content"]


def found(data: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    """Whether a row has a column, or a table has a key (``table.key``), and its value."""
    if name in data:
        return True, data[name]
    table, dot, key = name.partition(".")
    inside = data.get(table)
    if dot and isinstance(inside, Mapping) and key in inside:
        return True, inside[key]
    return False, None


def final_answer(answer: str | None, how: Final, where: str) -> str | None:
    """The part of a worked answer that is the answer itself. Raises CoveyError when it isn't there."""
    if answer is None or how == "whole":
        return answer
    if how == "hashes":
        _, marked, last = answer.rpartition("####")
        given = last.strip() if marked else ""
        wanted = "#### followed by the answer"
    else:
        given, wanted = _boxed(answer), "a \\boxed{…} with the answer"
    if not given:
        raise CoveyError(f"{where}: it must have {wanted}, and is {_shown(answer)}")
    return given


def _boxed(text: str) -> str:
    """What stands in the last ``\\boxed{…}``, whose braces may nest; nothing when it isn't closed."""
    _, opened, rest = text.rpartition("\\boxed{")
    depth = 1
    for place, character in enumerate(rest if opened else ""):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not depth:
            return rest[:place].strip()
    return ""


def by_share(problems: Sequence[Problem], share: float | None, source: str) -> dict[Split, Sequence[Problem]]:
    """Split by prompt: rows with the same one fall on the same side. ``share`` None is a tenth.

    Held-out problems come in a fixed random order, so that the first n are a fair choice; the others as
    the source has them.
    """
    held = held_out({identity(p) for p in problems}, HELDOUT_SHARE if share is None else share, source)
    chosen = [problem for problem in problems if identity(problem) in held]
    return {
        "train": tuple(problem for problem in problems if identity(problem) not in held),
        "heldout": tuple(sorted(chosen, key=lambda problem: shuffled(problem.id))),
    }


def by_source(
    train: Sequence[Problem],
    heldout: Sequence[Problem],
    share: float | None,
    source: str,
    heldout_source: str,
) -> dict[Split, Sequence[Problem]]:
    """Two sources, one a split.

    Raises:
        CoveyError: a share was given too, or a prompt is in both.
    """
    if share is not None:
        raise CoveyError(f"{source}: hold out a share or {heldout_source}, not both")
    held = {identity(problem) for problem in heldout}
    shared = [problem for problem in train if identity(problem) in held]
    if shared:
        example = str(shared[0].messages[-1]["content"])[:60]
        raise CoveyError(
            f"{heldout_source}: {len(shared)} prompts of {source} are held out here too, such as "
            f"{example!r}; remove them from one of the two, or hold out a share of {source} instead"
        )
    return {"train": train, "heldout": heldout}


def identity(problem: Problem) -> str:
    """What rows with the same prompt share."""
    return problem.id.partition("#")[0]


def _messages(value: object, where: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise CoveyError(f"{where}: a prompt must be a string or a list of messages, not {_shown(value)}")
    for message in value:
        fields = message if isinstance(message, dict) else {}
        if not isinstance(fields.get("role"), str) or not isinstance(fields.get("content"), str):
            raise CoveyError(
                f"{where}: a message must have a role and a content, both strings: {_shown(message)}"
            )
    if not any(message["content"].strip() for message in value):
        raise CoveyError(f"{where}: the prompt is empty")
    return tuple(value)


def _answer(value: object) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value) if str(value).strip() else None


def _json_value(value: object, where: str, depth: int = 0) -> Any:
    """The value as JSON has it; text that no file could hold (half a surrogate pair) is refused."""
    if depth > MAX_DEPTH:
        raise CoveyError(f"{where}: lists and objects nested more than {MAX_DEPTH} deep")
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {
            _json_value(str(key), where): _json_value(item, where, depth + 1) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_json_value(item, where, depth + 1) for item in value]
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CoveyError(f"{where}: text that is no valid Unicode: {_shown(text)}") from error
    return text


def _shown(value: object) -> str:
    return f"{type(value).__name__} {ascii(value)[:80]}"
