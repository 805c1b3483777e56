"""The nouns of ``covey.types`` as rows of JSON, and back.

A rollout file has three kinds of rows in the order things happened: for each group one ``problem``
row and an ``episode`` row per sample, written before the update; then a ``sample`` row per trained
episode, written after it. What most episodes share is written once:

- A first turn without ``context_ids`` continues the ``prompt_ids`` of its problem row, a later one has
  nothing before it. Where sampling was truncated it has ``kept``: for each token the ids it was drawn
  from, ascending, the first as it is and every further one as its distance to the one before.
- An episode has ``ended`` when an environment took part, and ``error`` when it failed.
- A sample without ``sampler_logp`` was trained with the sampler's log-probs of its episode, and one
  without ``token_ids`` on its episode's chosen tokens.
- One without ``old_logp``, ``ref_logp`` or ``selected`` was trained without looking at the rollout first;
  ``entropy`` is there where the loss pays for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, cast

from covey.records.migrations import Row
from covey.records.numbers import column, float32_columns, number
from covey.types import (
    Answer,
    Completion,
    Ending,
    Episode,
    Evaluation,
    Group,
    Problem,
    Sample,
    Score,
    StopReason,
    Turn,
)

LOOKED = ("old_logp", "ref_logp", "selected", "entropy")
"""Columns of a sample that only some algorithms have."""


def group_rows(step: int, index: int, group: Group) -> Iterator[Row]:
    """The ``problem`` row of a group and its ``episode`` rows. ``index`` counts the step's groups."""
    prompt_ids = next((e.turns[0].context_ids for e in group.episodes if e.turns), ())
    yield {
        "kind": "problem",
        "step": step,
        "group": index,
        "id": group.problem.id,
        "messages": as_json(group.problem.messages),
        "answer": group.problem.answer,
        "columns": as_json(group.problem.columns),
        "excluded": group.excluded,
        "prompt_ids": prompt_ids,
    }
    for episode, score in zip(group.episodes, group.scores, strict=True):
        yield {
            "kind": "episode",
            "step": step,
            "group": index,
            "sample": episode.sample,
            "problem_id": group.problem.id,
            "turns": [_turn_row(turn, prompt_ids if not i else ()) for i, turn in enumerate(episode.turns)],
            **_ended_row(episode),
            "score": _score_row(score),
        }


def groups_from_rows(rows: Iterable[Row]) -> list[Group]:
    """The groups of one step, from its ``problem`` and ``episode`` rows; others are passed over."""
    groups: list[Group] = []
    prompts: list[tuple[int, ...]] = []
    for row in rows:
        if row["kind"] == "problem":
            if row["group"] != len(groups):
                raise ValueError(f"group {row['group']} where group {len(groups)} was expected")
            problem = Problem(row["id"], tuple(row["messages"]), row["answer"], row["columns"])
            groups.append(Group(problem, (), (), row["excluded"]))
            prompts.append(tuple(row["prompt_ids"]))
        elif row["kind"] == "episode":
            index: int = row["group"]
            group = groups[index]
            turns = tuple(_turn(turn, () if i else prompts[index]) for i, turn in enumerate(row["turns"]))
            ended = Ending(row["ended"]) if "ended" in row else None
            episode = Episode(group.problem, row["sample"], turns, ended, row.get("error"))
            groups[index] = replace(
                group,
                episodes=(*group.episodes, episode),
                scores=(*group.scores, _score(row["score"])),
            )
    return groups


def sample_row(step: int, sample: Sample, groups: Sequence[Group]) -> Row:
    """A trained sample; ``groups`` are the step's, to see what its episode already says."""
    columns = {"weight": sample.weight, "logp": sample.logp}
    if sample.sampler_logp != _episode_logp(groups, sample.group, sample.sample):
        columns["sampler_logp"] = sample.sampler_logp
    columns |= {name: values for name in LOOKED if (values := getattr(sample, name))}
    other = sample.token_ids and sample.token_ids != _episode_tokens(groups, sample.group, sample.sample)
    return {
        "kind": "sample",
        "step": step,
        "group": sample.group,
        "sample": sample.sample,
        "advantage": sample.advantage,
        **float32_columns(columns),
        **({"token_ids": sample.token_ids} if other else {}),
    }


def sample_from_row(row: Row, groups: Sequence[Group]) -> Sample:
    if "sampler_logp" in row:
        sampler_logp = column(row, "sampler_logp")
    else:
        sampler_logp = _episode_logp(groups, row["group"], row["sample"])
        if sampler_logp is None:
            raise ValueError(f"group {row['group']} has no episode {row['sample']} with log-probs")
    return Sample(
        group=row["group"],
        sample=row["sample"],
        advantage=number(row["advantage"]),
        weight=column(row, "weight"),
        logp=column(row, "logp"),
        sampler_logp=sampler_logp,
        token_ids=tuple(row.get("token_ids", ())),
        **{name: column(row, name) for name in LOOKED if name in row},
    )


def evaluation_rows(evaluation: Evaluation) -> Iterator[Row]:
    """A row per answer: ``draw`` is ``greedy`` or ``sampled``."""
    for draw, answers in (("greedy", evaluation.greedy), ("sampled", evaluation.sampled)):
        for answer in answers:
            yield {
                "kind": "answer",
                "step": evaluation.step,
                "draw": draw,
                "problem_id": answer.problem_id,
                "scores": [_score_row(score) for score in answer.scores],
                "texts": answer.texts,
                "token_ids": answer.token_ids,
                "stops": answer.stops,
                **({"earlier": answer.earlier} if answer.earlier else {}),
            }


def answer_from_row(row: Row) -> Answer:
    return Answer(
        problem_id=row["problem_id"],
        scores=tuple(_score(score) for score in row["scores"]),
        texts=tuple(row["texts"]),
        token_ids=tuple(tuple[int, ...](ids) for ids in row["token_ids"]),
        stops=tuple(StopReason(stop) for stop in row["stops"]),
        earlier=tuple(tuple(tuple[int, ...](ids) for ids in replies) for replies in row.get("earlier", ())),
    )


def metric_values(row: Row) -> Row:
    """A metrics or timings row with its spelled numbers as floats again."""
    return {name: number(value) for name, value in row.items()}


def _ended_row(episode: Episode) -> Row:
    if episode.ended is None:
        return {}
    return {"ended": episode.ended} | ({"error": episode.error} if episode.error is not None else {})


def _turn_row(turn: Turn, prompt_ids: tuple[int, ...]) -> Row:
    done = turn.completion
    context = {} if turn.context_ids == prompt_ids else {"context_ids": turn.context_ids}
    logp = (
        {"sampler_logp": None}
        if done.sampler_logp is None
        else float32_columns({"sampler_logp": done.sampler_logp})
    )
    return {
        **context,
        "token_ids": done.token_ids,
        **logp,
        "stop": done.stop,
        "policy_version": done.policy_version,
        "text": done.text,
        **({} if done.kept is None else {"kept": [_distances(ids) for ids in done.kept]}),
    }


def _turn(row: Row, prompt_ids: tuple[int, ...]) -> Turn:
    return Turn(
        context_ids=tuple(row["context_ids"]) if "context_ids" in row else prompt_ids,
        completion=Completion(
            token_ids=tuple(row["token_ids"]),
            sampler_logp=None if row["sampler_logp"] is None else column(row, "sampler_logp"),
            stop=StopReason(row["stop"]),
            policy_version=row["policy_version"],
            text=row["text"],
            kept=tuple(tuple(accumulate(ids)) for ids in row["kept"]) if "kept" in row else None,
        ),
    )


def _distances(ids: Sequence[int]) -> list[int]:
    return [id - before for id, before in zip(ids, (0, *ids), strict=False)]


def _score_row(score: Score) -> Row:
    return {"value": score.value, "parts": dict(score.parts), "error": score.error}


def _score(row: Row) -> Score:
    parts = {name: None if part is None else number(part) for name, part in row["parts"].items()}
    return Score(row["value"], parts, row["error"])


def _episode_logp(groups: Sequence[Group], group: int, sample: int) -> tuple[float, ...] | None:
    episodes = groups[group].episodes if 0 <= group < len(groups) else ()
    return next((e.sampler_logp for e in episodes if e.sample == sample), None)


def _episode_tokens(groups: Sequence[Group], group: int, sample: int) -> tuple[int, ...] | None:
    episodes = groups[group].episodes if 0 <= group < len(groups) else ()
    return next((e.chosen_ids for e in episodes if e.sample == sample), None)


def as_json(value: Any) -> Any:
    """A data row's value as JSON; what JSON can't say (a date, bytes) is kept as its text."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in cast(Sequence[Any], value)]
    return value if isinstance(value, str | int | float | None) else str(value)
