"""Arithmetic that is too hard in the head, with a calculator to call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from covey.protocols import Environment
from covey.tasks.arithmetic import Arithmetic
from covey.tasks.tools import ToolUse, calculator
from covey.types import CoveyError, Problem

SYSTEM = (
    "Use the calculator. Example: to work out 31*47, first reply\n"
    '<tool_call>{"name": "calculator", "arguments": {"expression": "31*47"}}</tool_call>\n'
    "and when its result has come, reply with that number."
)


class Calculator(Arithmetic):
    """The problems of `arithmetic` as conversations: a reply may call the calculator, which answers, and the
    first that doesn't is the answer. ``system`` is put before each question; "" puts nothing there.

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
    ) -> None:
        if not isinstance(system, str):
            raise CoveyError(f"calculator: system must be a text, not {system!r}")
        super().__init__(operations, low, high, heldout, prompt)
        self._tools = {"calculator": calculator()}
        if system:
            opening = {"role": "system", "content": system}
            for split, problems in self._problems.items():
                told = tuple(replace(p, messages=(opening, *p.messages)) for p in problems)
                self._problems[split] = told

    def environment(self, problem: Problem, seed: int) -> Environment:
        return ToolUse(problem, self._tools)

    def tools(self) -> Sequence[Mapping[str, Any]]:
        return [tool.schema() for tool in self._tools.values()]
