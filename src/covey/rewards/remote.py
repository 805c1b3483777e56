"""A reward behind HTTP, as OpenRLHF has it: POST ``{"query", "prompts", "labels"}``, get ``{"rewards"}``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.rewards.asking import Server, Unanswered
from covey.rewards.beside import Beside
from covey.rewards.foreign import scored, texts
from covey.rewards.functions import Failure
from covey.types import Episode, Score


@dataclass(frozen=True)
class Remote(Beside):
    """What a server of OpenRLHF's kind gives a group's replies, in one request.

    ``query`` are prompts and replies, ``prompts`` the prompts and ``labels`` the gold answers, as for
    `foreign.OpenRLHFReward`; of the answer, ``rewards`` are the scores, ``scores`` and ``extra_logs`` parts.
    A request has ``seconds`` and up to ``attempts`` tries; what comes of none is not scored.

    Raises:
        CoveyError: as `Server`.
    """

    outside: ClassVar[str] = "asks a server"

    url: str
    key_env: str | None = None
    seconds: float = 180.0
    attempts: int = 5

    def __post_init__(self) -> None:
        self.server()

    def server(self) -> Server:
        return Server(self.url, key_env=self.key_env, seconds=self.seconds, attempts=self.attempts)

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        columns = texts(episodes)
        question = {"query": columns["queries"], "prompts": columns["prompts"], "labels": columns["labels"]}
        try:
            answer = self.server().ask(question, lambda answer: answer)
        except Unanswered as error:
            return [Failure(str(error), "server").score] * len(episodes)
        return scored(self.url, answer, len(episodes))
