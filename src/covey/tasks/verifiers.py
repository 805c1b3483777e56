"""Problems of a verifiers taskset, listed by the Python in which it is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from covey.protocols import Split
from covey.rewards.elsewhere import Elsewhere, Lost
from covey.rewards.verifiers import started
from covey.tasks.rows import Columns, Row, by_share
from covey.types import CoveyError, Problem

PAGE = 256  # tasks of one answer
PAGE_SECONDS = 600.0  # to make, or to download, as many


class Verifiers:
    """The tasks of ``taskset`` (``package.module:Class`` or ``file.py:Class``), a class of verifiers' v1
    interface, of which one reply is scored. Take the reward ``verifiers`` with it.

    ``python`` is the interpreter that has verifiers and the taskset; ``settings`` are the taskset's own.
    ``limit`` takes its first tasks only. Held out is a share of the prompts, a tenth unless ``heldout`` says
    otherwise. A field ``answer`` of the data is the gold answer.

    Raises:
        CoveyError: the taskset can't be loaded, or needs more than a reply to be scored (tools, a
            container, a user); it is endless and there is no limit; a task has no prompt, or one that is
            more than text.
    """

    def __init__(
        self,
        taskset: str,
        python: str,
        settings: Mapping[str, Any] | None = None,
        limit: int | None = None,
        heldout: float | None = None,
    ) -> None:
        if limit is not None and (type(limit) is not int or limit < 2):
            raise CoveyError(f"verifiers: limit must be a whole number from 2, not {limit!r}")
        if not all(taskset.rpartition(":")):
            raise CoveyError(f"verifiers: a taskset is written package.module:Class, not {taskset!r}")
        chosen = dict(settings or {})
        rows = list(_rows(taskset, python, chosen, limit))
        gold = any(row.data["answer"] is not None for row in rows)
        problems = Columns("prompt", "answer" if gold else None, None).read(rows, taskset)
        self._problems = by_share(problems, heldout, taskset)

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split."""
        return self._problems[split]


def _rows(taskset: str, python: str, settings: Mapping[str, Any], limit: int | None) -> Iterator[Row]:
    try:
        host, about = started(python, taskset, settings)
        if about["endless"] and limit is None:
            host.close()
            raise CoveyError(f"verifiers: {taskset} has no end: say with limit how many tasks to take")
        for number, task in enumerate(_tasks(host, limit)):
            where = f"{taskset}, task {number}"
            if "unfit" in task:
                raise CoveyError(f"{where}: it can't be used: {task['unfit']}")
            answer = task["data"].get("answer")
            yield Row(
                where,
                {
                    "prompt": task["messages"],
                    "answer": answer if isinstance(answer, str | int | float) else None,
                    "vf_taskset": [taskset, settings],
                    "vf_key": task["key"],
                    "vf_prompt": task["messages"],
                    "vf_data": task["data"],
                },
            )
    except Lost as lost:
        raise CoveyError(f"verifiers: {taskset} in {python}: {lost}") from lost


def _tasks(host: Elsewhere, limit: int | None) -> Iterator[Mapping[str, Any]]:
    """Its tasks, up to ``limit`` of them; the interpreter is ended in any case."""
    left, end = limit, False
    try:
        while not end and left != 0:
            page = host.ask({"rows": PAGE if left is None else min(PAGE, left)}, PAGE_SECONDS)
            if "raised" in page:
                raise CoveyError(f"verifiers: listing the tasks raised {page['raised']}\n{page['trace']}")
            yield from page["rows"]
            left = None if left is None else left - len(page["rows"])
            end = page["end"]
    finally:
        host.close()
