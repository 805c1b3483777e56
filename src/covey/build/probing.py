"""Trying a reward, on data or on a recipe's own task, before anything is trained with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from covey.build.combined import parts_of
from covey.build.components import build_reward, build_task
from covey.build.mixed import rewards_of
from covey.config import Component, parse, read
from covey.protocols import Interactive
from covey.rewards.by_part import PART
from covey.rewards.examples import EXAMPLES, NUMBERS
from covey.rewards.gold import check_kind
from covey.rewards.probe import Findings, Played, probe
from covey.types import Problem

__all__ = ["Findings", "examples_for", "probe_reward"]


CONVERSATIONS = {"finished": "guess"}
"""Rewards of how a conversation went, and the task on which they are tried when no recipe is given."""


def probe_reward(
    target: str,
    data: Path | None,
    overrides: Sequence[str],
    problems: int,
    full: float | None,
    *,
    partial: bool = False,
) -> Findings:
    """Try a reward: a name, ``file.py:name``, or the one of a recipe (``….toml``).

    The problems are the data's, a JSON Lines file as the task ``jsonl`` reads it; or the task's of the
    recipe; or a few that fit the reward. Where they are conversations, a reply is given at every turn. Raises
    CoveyError.
    """
    recipe = target.endswith(".toml")
    values = read(target) if recipe else {"model": {"name": "none"}, "task": "arithmetic", "reward": target}
    if data is not None:
        values["task"] = {"name": "jsonl", "path": str(data)}
    parsed = parse(values, overrides, where=target)
    reward = build_reward(parsed.reward)
    played: Played | None = None
    if data is None and not recipe and parsed.reward.name not in CONVERSATIONS:
        chosen: Sequence[Problem] = examples_for(parsed.reward)
    else:
        given = data is not None or recipe
        task = build_task(parsed.task if given else Component(name=CONVERSATIONS[parsed.reward.name]))
        chosen = list(islice(chain(task.problems("train"), task.problems("heldout")), problems))
        played = Played(task, parsed.rollout.max_turns) if isinstance(task, Interactive) else None
    check_kind(reward, chosen[0])
    try:
        return probe(reward, chosen, full, partial=partial, played=played)
    finally:
        if callable(close := getattr(reward, "close", None)):
            close()


def examples_for(component: Component) -> tuple[Problem, ...]:
    """Problems that a reward of Covey's can grade; of a combined one, its first part that asks for some."""
    if component.name == "combine":
        found = [examples_for(part.component) for part in parts_of(component.params.get("parts"))]
        return next((problems for problems in found if problems is not NUMBERS), NUMBERS)
    if component.name == "by_part":
        return tuple(
            replace(problem, id=f"{label}/{problem.id}", columns={**problem.columns, PART: label})
            for label, part in rewards_of(component).items()
            for problem in examples_for(part)
        )
    return EXAMPLES.get(component.name, NUMBERS)
