"""An own reward: a function with TRL's signature. Name it in a recipe as ``examples/own_reward.py:brief``.

It is called with the group's completions and with every column of the data row, each a list of one
item a completion, and returns a score for each; None means not scored. The annotation ``list[str]``
asks for the replies as plain text; without it they come as TRL's lists of messages.
"""

from __future__ import annotations

from covey.rewards.functions import from_function
from covey.types import Completion, Episode, Problem, StopReason, Turn


def brief(completions: list[str], answer: list[str], **columns: list[object]) -> list[float]:
    """1 when the reply's last word is the answer, and up to half of it off for talking around it."""
    words = [reply.rstrip(".").split() for reply in completions]
    return [
        (w[-1:] == [gold]) * max(0.5, 1 - 0.1 * (len(w) - 1)) for w, gold in zip(words, answer, strict=True)
    ]


if __name__ == "__main__":
    problem = Problem("44+39", ({"role": "user", "content": "What is 44 + 39?"},), answer="83")
    replies = ["83", "The answer is 83.", "82"]
    episodes = [
        Episode(problem, sample, (Turn((1, 2), Completion((3,), (-0.5,), StopReason.END, 0, reply)),))
        for sample, reply in enumerate(replies)
    ]
    for reply, score in zip(replies, from_function(brief)(episodes), strict=True):
        print(f"{score.value:.2f}  {reply}")
