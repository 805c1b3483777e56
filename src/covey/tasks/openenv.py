"""Episodes on an OpenEnv server, which runs elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from covey.protocols import Environment, Split
from covey.rewards.openenv import Broken, Conversation, Step
from covey.types import CoveyError, Message, Problem

HELDOUT_SEED = 1 << 30
"""Held-out episodes are reset with seeds this much higher; servers may keep a seed in 32 bits."""


class OpenEnv:
    """What a server says after a reset with one of ``problems`` seeds, from ``seed`` on, and to each reply.
    Take the reward ``openenv`` with it.

    A reply, without blanks around it, is the field ``action`` of the action. What the policy reads is the
    field ``observation`` of the observation, or all of it as JSON; ``system`` and ``prompt`` stand before the
    first. A reply that is no action of the server's is answered with that, and the episode goes on. An answer
    to a step may take ``seconds``.

    Raises:
        CoveyError: nobody answers at ``url``, an observation hasn't the field, or a number is none.
    """

    def __init__(
        self,
        url: str,
        action: str,
        observation: str | None = None,
        prompt: str = "",
        system: str | None = None,
        problems: int = 100,
        heldout: int = 20,
        seed: int = 0,
        seconds: float = 60.0,
    ) -> None:
        for name, value, least in (("problems", problems, 1), ("heldout", heldout, 1), ("seed", seed, 0)):
            if type(value) is not int or not least <= value < HELDOUT_SEED:
                raise CoveyError(f"openenv: {name} must be a whole number from {least}, not {value!r}")
        self.url, self.action, self.observation, self.seconds = url, action, observation, seconds
        self.prompt = prompt
        self.before: tuple[Message, ...] = ({"role": "system", "content": system},) if system else ()
        self._problems: dict[Split, tuple[Problem, ...]] = {
            "train": tuple(self._problem(s) for s in range(seed, seed + problems)),
            "heldout": tuple(
                self._problem(s) for s in range(HELDOUT_SEED + seed, HELDOUT_SEED + seed + heldout)
            ),
        }

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split, a seed each."""
        return self._problems[split]

    def environment(self, problem: Problem, seed: int) -> Environment:
        """The server's episode. It is reset with the problem's own seed, so that a group begins alike."""
        return _Remote(self, problem)

    def tools(self) -> Sequence[Mapping[str, Any]]:
        return ()

    def conversation(self, seed: int) -> Conversation:
        return Conversation(self.url, seed, self.action, self.seconds)

    def shown(self, step: Step) -> str:
        """What the policy reads of a step."""
        if step.refused is not None:
            return "error: this is no valid action"
        if self.observation is None:
            return json.dumps(step.observation, ensure_ascii=False, sort_keys=True)
        if self.observation not in step.observation:
            raise CoveyError(
                f"openenv: an observation has no field {self.observation!r}; it has: "
                f"{', '.join(step.observation)}"
            )
        value = step.observation[self.observation]
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)

    def _problem(self, seed: int) -> Problem:
        conversation = self.conversation(seed)
        try:
            begun = conversation.begin()
        except Broken as error:
            raise CoveyError(f"openenv: {error}; start the server, then the run") from error
        finally:
            conversation.close()
        if begun.done:
            raise CoveyError(f"openenv: the episode of seed {seed} is over before it begins")
        text = "\n\n".join(filter(None, (self.prompt, self.shown(begun))))
        columns = {"openenv_url": self.url, "openenv_action": self.action, "openenv_seed": seed}
        return Problem(
            f"openenv seed {seed}", (*self.before, {"role": "user", "content": text}), None, columns
        )


class _Remote:
    """An episode on the server, which is asked with the first reply: sessions are few."""

    def __init__(self, task: OpenEnv, problem: Problem) -> None:
        self.task, self.problem = task, problem
        self.conversation = task.conversation(problem.columns["openenv_seed"])

    def first(self) -> Sequence[Message]:
        return self.problem.messages

    def step(self, reply: Message) -> Sequence[Message] | None:
        step = self.conversation.say(reply["content"])
        if step.done:
            self.conversation.close()
            return None
        return [{"role": "user", "content": self.task.shown(step)}]
