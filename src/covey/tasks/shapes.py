"""Which columns of a row hold what, where nobody says so: the shapes that data sets have in the field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from covey.tasks.errors import unknown
from covey.tasks.rows import Columns, Final, Row, found

AUTO = "auto"
PROMPTS = ("prompt", "messages", "question", "problem")
ANSWERS = ("answer", "solution", "ground_truth", "label", "reward_model.ground_truth")
"""In this order; the last is verl's. A dot goes into a table."""

TEMPLATES = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "[INST]", "<|user|>")


def columns_of(
    rows: Iterable[Row], prompt: str, answer: str | None, final: str, system: str | None
) -> tuple[Columns, Iterator[Row], tuple[str, ...]]:
    """What the columns hold, all the rows, and notes on what was found rather than told.

    A name that is ``auto`` is looked for in the first row among `PROMPTS` or `ANSWERS`. ``messages`` that end
    with an assistant's message are a prompt and its answer, unless another column has that. Of answers with a
    last line ``#### 42`` (GSM8K) the 42 is the answer, and of a ``solution`` with a ``\\boxed{42}`` (MATH).

    Raises CoveyError for a ``final`` that there isn't.
    """
    if final not in (AUTO, *Final.__args__):
        raise unknown("final", "way to read an answer", final, (AUTO, *Final.__args__))
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return Columns(_or(prompt, PROMPTS[0]), _or(answer, ANSWERS[0]), system), iter(()), ()
    notes: list[str] = []
    data = first.data
    where = _or(prompt, next((name for name in PROMPTS if name in data), PROMPTS[0]))
    gold = answer
    if answer == AUTO:
        gold = next((name for name in ANSWERS if found(data, name)[0]), None)
        if gold is None:
            gold = where if _answered(data.get(where)) else ANSWERS[0]
    told = [f"prompt in {where!r}"] if prompt == AUTO and where != PROMPTS[0] else []
    told += [f"answer in {gold!r}"] if answer == AUTO and gold != ANSWERS[0] else []
    how: Any = _final(data, gold) if final == AUTO else final
    if final == AUTO and how != "whole":
        told.append({"hashes": "the answer after ####", "boxed": "the answer in \\boxed{}"}[how])
    if told:
        notes.append(
            f"{first.where}: found the {', '.join(told)}; set prompt, answer or final to read it otherwise"
        )
    if isinstance(text := data.get(where), str) and any(mark in text for mark in TEMPLATES):
        notes.append(
            f"{first.where}: the prompt looks as if a chat template had been applied already; Covey applies "
            "the model's own to every prompt, so give the bare text or a list of messages"
        )
    return Columns(where, gold, system, how), chain([first], rows), tuple(notes)


def _or(name: Any, otherwise: Any) -> Any:
    return otherwise if name == AUTO else name


def _answered(value: object) -> bool:
    """Messages of which the last is an assistant's."""
    last = value[-1] if isinstance(value, list) and len(value) > 1 else None
    return isinstance(last, Mapping) and last.get("role") == "assistant"


def _final(data: Mapping[str, Any], answer: str | None) -> Final:
    value = found(data, answer)[1] if answer else None
    if not isinstance(value, str):
        return "whole"
    if value.strip().rpartition("\n")[2].startswith("####"):
        return "hashes"
    return "boxed" if answer == "solution" and "\\boxed{" in value else "whole"
