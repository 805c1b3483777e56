"""An OpenEnv server's episodes: played, and played again for their rewards."""

from __future__ import annotations

import json
import math
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from covey.rewards.functions import Failure
from covey.rewards.websocket import Closed, WebSocket
from covey.types import CoveyError, Ending, Episode, Problem, Score, StopReason

COLUMNS = ("openenv_url", "openenv_action", "openenv_seed")
SCHEMES = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}


class Broken(Exception):
    """The server gave nothing that can be used, and what it said."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a server answers: ``refused`` in place of the rest where a reply is no action it knows."""

    observation: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reward: float = 0.0
    done: bool = False
    refused: str | None = None


class Conversation:
    """One episode on a server (OpenEnv 0.10's ``/ws``), from a reset with ``seed`` on.

    The reply is the action's field ``action``. A connection that was lost since the last step, as servers
    close one that is silent while others are sampled, is made anew and the episode replayed to where it was.

    Raises:
        Broken: at any method: no answer, one that can't be read, or the server's own error.
    """

    def __init__(self, url: str, seed: int, action: str, seconds: float) -> None:
        self.url, self.seed, self.action, self.seconds = address(url), seed, action, seconds
        self.socket: WebSocket | None = None
        self.replies: list[str] = []

    def begin(self) -> Step:
        """Reset on a new connection."""
        self.close()
        try:
            self.socket = WebSocket(self.url, self.seconds)
            return self._ask("reset", {"seed": self.seed})
        except Closed as error:
            raise Broken(str(error)) from error

    def say(self, reply: str) -> Step:
        """The next reply; the first one begins."""
        try:
            said = self._ask("step", {self.action: reply.strip()}) if self.socket else self._again(reply)
        except Closed:
            said = self._again(reply)
        self.replies.append(reply)
        return said

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _again(self, reply: str) -> Step:
        self.begin()
        try:
            for earlier in self.replies:
                self._ask("step", {self.action: earlier.strip()})
            return self._ask("step", {self.action: reply.strip()})
        except Closed as error:
            raise Broken(f"{self.url}: {error}") from error

    def _ask(self, kind: str, data: Mapping[str, Any]) -> Step:
        assert self.socket is not None
        answer = self.socket.exchange(json.dumps({"type": kind, "data": data}))
        try:
            return read(json.loads(answer))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise Broken(f"{self.url}: no observation ({type(error).__name__}: {error})") from error


def read(message: Mapping[str, Any]) -> Step:
    """An answer as a step. Raises Broken for an error of the server's, and KeyError, TypeError or ValueError
    for what is no answer."""
    data = message["data"]
    if message["type"] == "error":
        if data.get("code") == "VALIDATION_ERROR":
            return Step(refused=str(data.get("message")))
        raise Broken(f"the server says {data.get('code')}: {data.get('message')}"[:500])
    reward, done, observation = data["reward"], data["done"], data["observation"]
    if not isinstance(done, bool) or not isinstance(observation, Mapping):
        raise TypeError("done is true or false, and an observation is an object")
    earned = 0.0 if reward is None else float(reward)
    if not math.isfinite(earned):
        raise ValueError(f"a reward of {earned}")
    return Step(observation, earned, done)


def address(url: str) -> str:
    """Where a server's episodes are had. Raises CoveyError when it is no address."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname or parts.username or parts.password:
        raise CoveyError(f"openenv: a server's address is written http://host:port, not {url!r}")
    return f"{SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}/ws"


@dataclass(frozen=True)
class OpenEnv:
    """The sum of the rewards that the server gives an episode's replies, when they are given to it again
    after a reset with the problem's seed. A reply that is no action, or was cut, earns 0.

    An episode that goes on or ends otherwise than it did isn't scored: the environment is then no function
    of seed and replies. ``seconds`` are for each step.
    """

    outside: ClassVar[str] = "asks a server"

    seconds: float = 60.0

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [self._score(episode) for episode in episodes]

    def check(self, problem: Problem) -> None:
        """Raise CoveyError for a problem of another task."""
        for column in COLUMNS:
            if column not in problem.columns:
                raise CoveyError(
                    "[reward] openenv scores problems of the task openenv, which have the column "
                    f"{column!r}; {problem.id!r} has none"
                )

    def _score(self, episode: Episode) -> Score:
        url, action, seed = (episode.problem.columns[column] for column in COLUMNS)
        replies = [t.completion.text for t in episode.turns if t.completion.stop is not StopReason.LENGTH]
        conversation, earned, done = Conversation(url, seed, action, self.seconds), 0.0, False
        try:
            for number, reply in enumerate(replies, start=1):
                step = conversation.say(reply)
                earned, done = earned + step.reward, step.done
                if done and number < len(replies):
                    break
        except Broken as error:
            return Failure(str(error), "server").score
        finally:
            conversation.close()
        if done is not (episode.ended is Ending.DONE) or len(conversation.replies) != len(replies):
            return Score(
                None, error=f"{url}: the replies end otherwise when given again: it isn't settled by its seed"
            )
        return Score(earned)
