"""What environments said, asked of them again: the recorded replies are given to fresh ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from covey.audit.findings import Check
from covey.audit.meaning import Meaning, Meanings, there
from covey.audit.recorded import Record
from covey.build.conversation import talk_of
from covey.protocols import Interactive
from covey.rollout import Attempt, Talk, play
from covey.types import Completion, CoveyError, DrawKey, Episode, Request, StopReason


def has_conversations(record: Record, meanings: Meanings) -> bool:
    """Whether the task has environments, or an episode says that it had one."""
    if any(isinstance(meanings.at(step.step).task, Interactive) for step in record.steps):
        return True
    episodes = (episode for step in record.steps for group in step.groups for episode in group.episodes)
    return any(episode.ended is not None or len(episode.turns) > 1 for episode in episodes)


def conversations(check: Check, record: Record, meanings: Meanings) -> None:
    """The tokens between replies, which carry no loss, are what the environment and the template put there;
    and an episode ended when and as they say."""
    for step in record.steps:
        meaning, seen = meanings.at(step.step), Counter[str]()
        talk = talk_of(meaning.recipe, there(meaning.task), there(meaning.words))
        for index, group in enumerate(step.groups):
            again, name = seen[group.problem.id], group.problem.id
            seen[name] += 1
            for episode in group.episodes:
                if talk is None and episode.ended is None and len(episode.turns) == 1:
                    continue
                check.count += 1
                purpose = f"train/{again}" if again else "train"
                key = DrawKey(meaning.recipe.seed, step.step, name, episode.sample, purpose=purpose)
                place = {"step": step.step, "group": index, "sample": episode.sample}
                _compare(check, place, episode, key, meaning, talk)


class _Recorded:
    """A sampler that gives each reply of an episode again; behind the last one it fails."""

    def __init__(self, episode: Episode) -> None:
        self.turns = episode.turns

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        for index, request in enumerate(requests):
            turn = request.key.turn
            over = Completion((), None, StopReason.ERROR, 0)
            yield index, self.turns[turn].completion if turn < len(self.turns) else over


def _compare(
    check: Check, place: dict[str, Any], recorded: Episode, key: DrawKey, meaning: Meaning, talk: Talk | None
) -> None:
    prompt = recorded.turns[0].context_ids if recorded.turns else ()
    sampling = meaning.recipe.rollout.sampling
    try:
        attempt = Attempt(recorded.problem, prompt, key)
        [(_, again)] = play([attempt], _Recorded(recorded), there(meaning.chat), sampling, talk)
    except CoveyError as error:
        check.fault(place, f"the conversation can't be had again: {error}")
        return
    check.same(place, "replies", len(recorded.turns), len(again.turns))
    for number, (turn, wanted) in enumerate(zip(recorded.turns, again.turns, strict=False)):
        check.same({**place, "turn": number}, "context ids", turn.context_ids, wanted.context_ids)
    check.same(place, "ended", recorded.ended, again.ended)
    check.same(place, "error", recorded.error, again.error)
