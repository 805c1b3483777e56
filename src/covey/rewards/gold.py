"""Whether a reward can grade a task's problems at all, asked before a run.

A reward may have ``check(problem)``, which raises `CoveyError` for a problem that it can't grade. It is asked
about one problem, since a task's problems have the same columns; about all of them where ``checks_all`` is
true, because it reads their gold answers, each of which may be wrong. One that asks others has
``check_all(problems)`` instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from covey.protocols import Reward
from covey.types import CoveyError, Problem


def check_kind(reward: Reward, problem: Problem) -> None:
    """Raise CoveyError for a problem of a kind that the reward doesn't grade; its gold answer isn't read."""
    if callable(check := getattr(reward, "check", None)) and not getattr(reward, "checks_all", False):
        check(problem)


def check_all(reward: Reward, problems: Sequence[Problem]) -> None:
    """Raise CoveyError for the first problem that the reward can't grade."""
    if callable(several := getattr(reward, "check_all", None)):
        several(problems)
    elif callable(check := getattr(reward, "check", None)):
        for problem in problems if getattr(reward, "checks_all", False) else problems[:1]:
            check(problem)


def refused(problem: Problem, reason: str) -> CoveyError:
    """What is raised for a problem whose gold answer or tests can't be used."""
    return CoveyError(
        f"problem {problem.id!r}: {reason}; mend the row, take it out, or choose another reward"
    )
