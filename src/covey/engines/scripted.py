"""An engine that answers by script: a task, a reward or a whole source runs without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from covey.types import Completion, CoveyError, Message, Request, StopReason, Weights

END = 0
"""The end token; every other id is a character's code point."""


class ScriptedEngine:
    """Answers sample ``s`` of every problem with ``replies[s % len(replies)]``, or with what a function
    of the request returns.

    A reply's token ids are its characters' code points and the end token, cut off at
    ``max_new_tokens``; every token's ``sampler_logp`` is ``logp``. The reply None is an engine that
    failed. Requests are answered last one first, as an engine may. ``asked`` keeps each call's requests.
    It has no distribution to truncate: such a request raises CoveyError.
    """

    def __init__(
        self,
        replies: Sequence[str | None] | Callable[[Request], str | None],
        *,
        logp: float = -1.0,
    ) -> None:
        self.reply = replies if callable(replies) else lambda r: replies[r.key.sample % len(replies)]
        self.logp = logp
        self.version = 0
        self.asked: list[tuple[Request, ...]] = []

    def load(self, weights: Weights) -> None:
        """Take over the version, to be reported with every completion."""
        self.version = weights.version

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Answer every request, the last one first."""
        self.asked.append(tuple(requests))
        for index in reversed(range(len(requests))):
            yield index, self._completion(requests[index])

    def _completion(self, request: Request) -> Completion:
        if request.sampling.truncates:
            raise CoveyError(
                f"problem {request.key.problem_id!r}: a scripted engine has no distribution to truncate: "
                "leave top_k, top_p and min_p out"
            )
        text = self.reply(request)
        if text is None:
            return Completion((), (), StopReason.ERROR, self.version)
        most = request.sampling.max_new_tokens
        ids = (*map(ord, text), END)[:most]
        stop = StopReason.END if ids[-1] == END else StopReason.LENGTH
        return Completion(ids, (self.logp,) * len(ids), stop, self.version, text[:most])


class ScriptedChat:
    """The `Chat` beside it: a prompt is the code points of its messages' text, one a line."""

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return tuple(map(ord, "\n".join(str(message["content"]) for message in messages)))
