"""Questions from a file, with tools to call on the way to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covey.protocols import Environment
from covey.tasks.jsonl import Jsonl
from covey.tasks.shapes import AUTO
from covey.tasks.tools import ToolUse, toolbox
from covey.types import Problem


class Tooled(Jsonl):
    """A `jsonl` task whose replies may call ``tools``, such as
    ``["calculator", {name = "search", folder = "notes"}]``.

    The first reply that calls none is the answer. ``python`` runs in the sandbox, and `notes` says in which.

    Raises:
        CoveyError: as `Jsonl` does; an unknown tool or parameter of one; a folder that can't be searched; no
            sandbox for ``python``.
    """

    def __init__(
        self,
        path: str,
        tools: Sequence[str | Mapping[str, Any]],
        prompt: str = AUTO,
        answer: str | None = AUTO,
        heldout: float | None = None,
        heldout_path: str | None = None,
        system: str | None = None,
        final: str = AUTO,
    ) -> None:
        self._tools = toolbox(tools, "tools")
        super().__init__(path, prompt, answer, heldout, heldout_path, system, final)
        self.notes = (*self.notes, *(tool.note for tool in self._tools.values() if tool.note))

    def environment(self, problem: Problem, seed: int) -> Environment:
        return ToolUse(problem, self._tools)

    def tools(self) -> Sequence[Mapping[str, Any]]:
        return [tool.schema() for tool in self._tools.values()]
