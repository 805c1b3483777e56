"""What was sampled, recomputed: problems, prompts, draws, texts, ends, scores, exclusions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from covey.audit.conversations import conversations, has_conversations
from covey.audit.drawn import redrawn
from covey.audit.findings import Check, Place
from covey.audit.kept import has_kept, kept
from covey.audit.meaning import Meaning, Meanings, there
from covey.audit.recorded import Record
from covey.records.rows import as_json
from covey.rollout.filters import exclusion, ungraded
from covey.types import Episode, Group, Problem, Score, StopReason

ROUNDING = 1e-5
"""How far above 0 a near-certain token's log-probability may be rounded."""

SampledCheck: TypeAlias = Callable[[Check, Record, Meanings], None]


def sampled_checks(record: Record, meanings: Meanings) -> Iterator[Check]:
    """Every check of the groups, those of a last step without its update among them."""
    for name, unit, run, needs in CHECKS:
        if name in FOR_SOME and not FOR_SOME[name](record, meanings):
            continue
        check = Check(name, unit, skipped=meanings.without(*needs))
        if not check.skipped:
            run(check, record, meanings)
        yield check


def problems(check: Check, record: Record, meanings: Meanings) -> None:
    """The seed draws these problems from the task, and as many groups as its refills call for."""
    for step, drawn, _ in redrawn(record, meanings):
        meaning = meanings.at(step.step)
        check.same({"step": step.step}, "number of groups", len(step.groups), len(drawn))
        for index, (number, group) in enumerate(zip(drawn, step.groups, strict=False)):
            check.count += 1
            wanted = meaning.train[number]
            for name, recorded, computed in _fields(group.problem, wanted):
                check.same({"step": step.step, "group": index}, name, recorded, computed)


def prompts(check: Check, record: Record, meanings: Meanings) -> None:
    """The chat template makes these ids of the messages."""
    for place, group, meaning in _groups(record, meanings):
        if meaning.task is None and any(episode.ended is not None for episode in group.episodes):
            check.skipped = meanings.without("task")  # which tools it tells of, only the task knows
            return
        check.count += 1
        wanted = there(meaning.chat).prompt(group.problem.messages)
        for episode in group.episodes:
            ids = episode.turns[0].context_ids if episode.turns else ()
            check.same({**place, "sample": episode.sample}, "prompt ids", ids, wanted)


def draws(check: Check, record: Record, meanings: Meanings) -> None:
    """Each completion has a stream of random numbers of its own: samples are numbered once, in order."""
    for place, group, meaning in _groups(record, meanings):
        check.count += 1
        numbers = [episode.sample for episode in group.episodes]
        check.same(place, "samples", numbers, list(range(meaning.recipe.rollout.group_size)))


def texts(check: Check, record: Record, meanings: Meanings) -> None:
    """The recorded ids decode to the recorded text, which is what was graded."""
    for place, episode, meaning in _episodes(record, meanings):
        check.count += 1
        words = there(meaning.words)
        for turn in episode.turns:
            ids = turn.completion.token_ids
            if outside := [token for token in ids if not 0 <= token < words.vocabulary]:
                check.fault(place, f"token {outside[0]} isn't in the vocabulary of {words.vocabulary}")
            else:
                check.same(place, "text", turn.completion.text, words.chat.text(ids))


def stops(check: Check, record: Record, meanings: Meanings) -> None:
    """A completion ends with its first end token, or at the limit."""
    for place, episode, meaning in _episodes(record, meanings):
        check.count += 1
        for turn in episode.turns:
            ids, stop = turn.completion.token_ids, turn.completion.stop
            check.same(place, "stop", str(stop), ending(ids, stop, meaning))


def ending(ids: Sequence[int], stop: StopReason, meaning: Meaning) -> str:
    """Why a completion of these ids has ended; what the engine failed at may have any."""
    if stop is StopReason.ERROR:
        return str(stop)
    if any(token in meaning.end_ids for token in ids[:-1]):
        return "earlier, at its first end token"
    if ids and ids[-1] in meaning.end_ids:
        return str(StopReason.END)
    return str(StopReason.LENGTH) if len(ids) == meaning.recipe.rollout.max_new_tokens else "not yet"


def sampler_logp(check: Check, record: Record, meanings: Meanings) -> None:
    """One log-probability a token."""
    for place, episode, _ in _episodes(record, meanings):
        check.count += 1
        for turn in episode.turns:
            values = turn.completion.sampler_logp
            if values is None:
                continue
            check.same(place, "number of sampler_logp", len(values), len(turn.completion.token_ids))
            for value in values:
                if not math.isfinite(value) or value > ROUNDING:
                    check.fault(place, f"sampler_logp {value} is no log-probability")


def versions(check: Check, record: Record, meanings: Meanings) -> None:
    """The policy that sampled is the one after all updates before: a lag of 0."""
    newest = {step.step: record.version(step.step) for step in record.steps}
    for place, episode, _ in _episodes(record, meanings):
        check.count += 1
        for turn in episode.turns:
            check.same(place, "policy_version", turn.completion.policy_version, newest[place["step"]])


def scores(check: Check, record: Record, meanings: Meanings) -> None:
    """The graders, run again on the recorded texts, say the same."""
    for place, group, meaning in _groups(record, meanings):
        check.count += len(group.episodes)
        finished = [episode for episode in group.episodes if episode.failure is None]
        graded = there(meaning.reward)(finished) if finished else ()
        check.same(place, "number of scores", len(group.scores), len(group.episodes))
        check.same(place, "number of scores graded again", len(finished), len(graded))
        again = {episode.sample: score for episode, score in zip(finished, graded, strict=False)}
        for episode, recorded in zip(group.episodes, group.scores, strict=False):
            computed = again.get(episode.sample, ungraded(episode))
            compare_scores(check, {**place, "sample": episode.sample}, recorded, computed)


def compare_scores(check: Check, place: Place, recorded: Score, computed: Score) -> None:
    """A score's value, its parts, and why it has none."""
    check.same(place, "reward", recorded.value, computed.value)
    check.same(place, "reward parts", dict(recorded.parts), dict(computed.parts))
    check.same(place, "reward error", recorded.error, computed.error)


def exclusions(check: Check, record: Record, meanings: Meanings) -> None:
    """A group is left out exactly when its scores carry no signal."""
    for place, group, _ in _groups(record, meanings):
        check.count += 1
        check.same(place, "excluded", group.excluded, exclusion(group.scores))


CHECKS: tuple[tuple[str, str, SampledCheck, tuple[str, ...]], ...] = (
    ("problems", "problems drawn again from the task", problems, ("task",)),
    ("prompts", "prompts rendered again", prompts, ("tokenizer",)),
    ("conversations", "episodes whose environment says the same again", conversations, ("task", "tokenizer")),
    ("draws", "groups whose samples have a draw each", draws, ()),
    ("texts", "completions decoded again", texts, ("tokenizer",)),
    ("stops", "completions that end where they must", stops, ("tokenizer",)),
    ("sampler logp", "completions with one log-probability a token", sampler_logp, ()),
    ("kept ids", "tokens among the ids that their sampling kept", kept, ()),
    ("policy versions", "completions sampled by the newest weights", versions, ()),
    ("rewards", "completions graded again", scores, ("reward",)),
    ("exclusions", "groups kept or left out by their scores", exclusions, ()),
)
"""Name, what is counted, the check, and the parts of a recipe that it needs."""

FOR_SOME = {"conversations": has_conversations, "kept ids": has_kept}
"""Checks of what only some runs have, and which those are."""


def _groups(record: Record, meanings: Meanings) -> Iterator[tuple[dict[str, int], Group, Meaning]]:
    for step in record.steps:
        for index, group in enumerate(step.groups):
            yield {"step": step.step, "group": index}, group, meanings.at(step.step)


def _episodes(record: Record, meanings: Meanings) -> Iterator[tuple[dict[str, int], Episode, Meaning]]:
    for place, group, meaning in _groups(record, meanings):
        for episode in group.episodes:
            yield {**place, "sample": episode.sample}, episode, meaning


def _fields(recorded: Problem, computed: Problem) -> Iterator[tuple[str, Any, Any]]:
    yield "problem", recorded.id, computed.id
    yield "messages", as_json(recorded.messages), as_json(computed.messages)
    yield "answer", recorded.answer, computed.answer
    yield "columns", as_json(recorded.columns), as_json(computed.columns)
