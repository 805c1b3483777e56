"""Arithmetic that is too hard in the head, with a calculator to call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from covey.protocols import Environment
from covey.tasks.arithmetic import Arithmetic
from covey.tasks.expression import evaluate, written
from covey.tasks.tools import ToolUse, calculator
from covey.types import CoveyError, Message, Problem

SYSTEM = "Use the calculator, then answer with its result."


SHOWN = ((31, 47), (85, 12), (64, 29))
"""The operands of the examples. Their range is another than the questions' default."""


class Calculator(Arithmetic):
    """The problems of `arithmetic` as conversations: a reply may call the calculator, which answers, and the
    first that doesn't is the answer. ``system`` is put before each question; "" puts nothing there. Then come
    ``examples`` of a call, its result and the answer, in the model's own format.

    Raises:
        CoveyError: as `Arithmetic` does.
    """

    def __init__(
        self,
        operations: Sequence[str] = ("*",),
        low: int = 100,
        high: int = 999,
        heldout: float = 0.1,
        prompt: str = "What is {a}{op}{b}?",
        system: str = SYSTEM,
        examples: int = 2,
    ) -> None:
        if not isinstance(system, str):
            raise CoveyError(f"calculator: system must be a text, not {system!r}")
        if isinstance(examples, bool) or not isinstance(examples, int) or not 0 <= examples <= len(SHOWN):
            raise CoveyError(f"calculator: there are 0 to {len(SHOWN)} examples, not {examples!r}")
        super().__init__(operations, low, high, heldout, prompt)
        self._tools = {"calculator": calculator()}
        opening = [{"role": "system", "content": system}] if system else []
        for number, (a, b) in enumerate(SHOWN[:examples]):
            opening += _shown(number, prompt.format(a=a, op=operations[0], b=b), f"{a}{operations[0]}{b}")
        for split, problems in self._problems.items():
            told = tuple(replace(p, messages=(*opening, *p.messages)) for p in problems)
            self._problems[split] = told

    def environment(self, problem: Problem, seed: int) -> Environment:
        return ToolUse(problem, self._tools)

    def tools(self) -> Sequence[Mapping[str, Any]]:
        return [tool.schema() for tool in self._tools.values()]


def _shown(number: int, question: str, expression: str) -> list[Message]:
    """A question, the call that answers it, its result, and the answer."""
    name, result = f"show{number:05d}", written(evaluate(expression))
    call = {"name": "calculator", "arguments": {"expression": expression}}
    return [
        {"role": "user", "content": question},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": name, "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": name, "name": "calculator", "content": result},
        {"role": "assistant", "content": result},
    ]
