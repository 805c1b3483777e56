"""A game: guess a number, and be told whether it is higher or lower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covey.protocols import Environment, Split
from covey.rewards.number import only_number
from covey.tasks.heldout import held_out, place, shuffled
from covey.types import CoveyError, Message, Problem


class Guess:
    """``games`` of guessing a number from 1 to ``highest``, until it is found or the turns are over. Take the
    reward ``finished`` with it, and as many ``rollout.max_turns`` as guesses are to be had.

    A guess is a reply with one number: naming several, or repeating the question, would win by chance.
    A problem is a game with its number, so that a group's episodes compare on equal terms. Only the answers
    tell them apart. ``heldout`` is the share of games held out.

    Raises:
        CoveyError: fewer than two numbers or games, more than a million, or a share outside (0, 1).
    """

    def __init__(self, highest: int = 9, games: int = 200, heldout: float = 0.2) -> None:
        for name, value in (("highest", highest), ("games", games)):
            if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= 10**6:
                raise CoveyError(f"guess: {name} must be a whole number from 2 to 10^6, not {value!r}")
        every = sorted((f"guess {highest} game {game}" for game in range(games)), key=shuffled)
        held = held_out(every, heldout, "guess")
        self._problems: dict[Split, tuple[Problem, ...]] = {
            "train": tuple(_problem(game, highest) for game in every if game not in held),
            "heldout": tuple(_problem(game, highest) for game in every if game in held),
        }

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split."""
        return self._problems[split]

    def environment(self, problem: Problem, seed: int) -> Environment:
        return _Game(problem)

    def tools(self) -> Sequence[Mapping[str, Any]]:
        return ()


class _Game:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.secret = problem, int(problem.answer or 0)

    def first(self) -> Sequence[Message]:
        return self.problem.messages

    def step(self, reply: Message) -> Sequence[Message] | None:
        guess = only_number(reply["content"])
        if guess == self.secret:
            return None
        said = "number?" if guess is None else "higher" if guess < self.secret else "lower"
        return [{"role": "user", "content": said}]


def _problem(game: str, highest: int) -> Problem:
    message = {"role": "user", "content": f"Guess my number, 1 to {highest}."}
    return Problem(game, (message,), str(1 + int(place(f"number of {game}") * highest)))
