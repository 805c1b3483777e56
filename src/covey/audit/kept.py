"""The ids that truncated sampling kept: those a token can have been drawn from."""

from __future__ import annotations

import math
from itertools import pairwise

from covey.audit.findings import Check, Place
from covey.audit.meaning import Meaning, Meanings
from covey.audit.recorded import Record
from covey.types import Completion, Sampling, StopReason

ROUNDING = 1e-5
"""Nats by which a log-probability may be rounded."""


def has_kept(record: Record, meanings: Meanings) -> bool:
    """Whether a recipe truncates, or a completion says that it was."""
    if any(meanings.at(step.step).recipe.rollout.sampling.truncates for step in record.steps):
        return True
    episodes = (episode for step in record.steps for group in step.groups for episode in group.episodes)
    return any(turn.completion.kept is not None for episode in episodes for turn in episode.turns)


def kept(check: Check, record: Record, meanings: Meanings) -> None:
    """Every token was drawn from ids that the recipe's truncation can have kept."""
    for step in record.steps:
        meaning = meanings.at(step.step)
        for index, group in enumerate(step.groups):
            for episode in group.episodes:
                place = {"step": step.step, "group": index, "sample": episode.sample}
                for number, turn in enumerate(episode.turns):
                    at = {**place, "turn": number} if len(episode.turns) > 1 else place
                    _completion(check, at, turn.completion, meaning)


def _completion(check: Check, place: Place, done: Completion, meaning: Meaning) -> None:
    sampling = meaning.recipe.rollout.sampling
    if done.stop is not StopReason.ERROR:
        check.same(place, "whether it was truncated", done.kept is not None, sampling.truncates)
    if done.kept is None:
        return
    check.same(place, "number of kept sets", len(done.kept), len(done.token_ids))
    vocabulary = meaning.words.vocabulary if meaning.words else None
    logp = done.sampler_logp or (None,) * len(done.token_ids)
    for number, (ids, token, value) in enumerate(zip(done.kept, done.token_ids, logp, strict=False)):
        check.count += 1
        if (wrong := _wrong(ids, token, value, sampling, vocabulary)) is not None:
            check.fault({**place, "token": number}, wrong)


def _wrong(
    ids: tuple[int, ...], token: int, logp: float | None, sampling: Sampling, vocabulary: int | None
) -> str | None:
    """Why a token can't have been drawn from these ids with this log-probability, or None."""
    if token not in ids:
        return f"it is {token}, which isn't among the {len(ids)} ids kept"
    if len(ids) > sampling.top_k:
        return f"{len(ids)} ids were kept, more than top_k = {sampling.top_k}"
    if any(a >= b for a, b in pairwise(ids)) or ids[0] < 0:
        return "its kept ids aren't in ascending order"
    if vocabulary is not None and ids[-1] >= vocabulary:
        return f"id {ids[-1]} was kept, which isn't in the vocabulary of {vocabulary}"
    if logp is None:
        return None
    if len(ids) == 1 and abs(logp) > ROUNDING:
        return f"it is the only id kept, and its sampler_logp is {logp}, not 0"
    # the likeliest of n has 1/n at least, and any other min_p times that
    if sampling.min_p and logp < math.log(sampling.min_p / len(ids)) - ROUNDING:
        return f"its sampler_logp {logp} is below what min_p = {sampling.min_p} lets {len(ids)} ids have"
    return None
