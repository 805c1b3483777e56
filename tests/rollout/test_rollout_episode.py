"""Conversations with environments: how they advance, end and fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from covey.engines.scripted import ScriptedChat, ScriptedEngine
from covey.rollout import Attempt, Limits, SynchronousSource, Talk, play
from covey.rollout.episode import seed_of
from covey.types import (
    Completion,
    CoveyError,
    DrawKey,
    Ending,
    Episode,
    Message,
    Problem,
    Request,
    Sampling,
    Score,
    StopReason,
)

NO_LIMITS = Limits()
PROBLEM = Problem("p", ({"role": "user", "content": "go"},))


class Chatting(ScriptedChat):
    """Goes on with a line break, the messages and a line break."""

    def after(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return tuple(map(ord, "\n" + "".join(str(m["content"]) for m in messages) + "\n"))

    def reply(self, ids: Sequence[int]) -> Message:
        return {"role": "assistant", "content": "".join(chr(i) for i in ids if i)}


@dataclass
class Echo:
    """Says what it was told until it is told ``stop``; raises on ``bad``."""

    first_messages: Sequence[Message] = PROBLEM.messages
    seeds: list[int] = field(default_factory=list[int])

    def environment(self, problem: Problem, seed: int) -> Echo:
        self.seeds.append(seed)
        return self

    def tools(self) -> Sequence[Any]:
        return ()

    def first(self) -> Sequence[Message]:
        return self.first_messages

    def step(self, reply: Message) -> Sequence[Message] | None:
        if reply["content"] == "bad":
            raise ZeroDivisionError("oh")
        return None if reply["content"] == "stop" else [{"role": "user", "content": reply["content"]}]


def attempts(count: int) -> list[Attempt]:
    chat = Chatting()
    return [Attempt(PROBLEM, chat.prompt(PROBLEM.messages), DrawKey(7, 3, "p", s)) for s in range(count)]


def played(
    script: dict[int, list[str | None]], limits: Limits = NO_LIMITS, most: int = 10
) -> tuple[list[Episode], ScriptedEngine]:
    engine = ScriptedEngine(lambda request: script[request.key.sample][request.key.turn])
    found = dict(play(attempts(len(script)), engine, Chatting(), Sampling(most), Talk(Echo(), limits)))
    return [found[index] for index in range(len(script))], engine


def test_conversations_advance_together_and_each_ends_by_itself() -> None:
    episodes, engine = played({0: ["stop"], 1: ["a", "b", "stop"], 2: ["c", "stop"]})
    assert [len(e.turns) for e in episodes] == [1, 3, 2]
    assert [e.ended for e in episodes] == [Ending.DONE] * 3
    assert [[r.key.sample for r in asked] for asked in engine.asked] == [[0, 1, 2], [1, 2], [1]]
    assert [r.key for r in engine.asked[1]] == [DrawKey(7, 3, "p", s, turn=1) for s in (1, 2)]


def test_each_turn_extends_the_tokens_before_it() -> None:
    [episode], engine = played({0: ["a", "b", "stop"]})
    said = "".join(chr(i) or "|" for i in episode.token_ids).replace("\0", "|")
    assert said == "goa|\na\nb|\nb\nstop|"
    for before, after in zip(engine.asked, engine.asked[1:], strict=False):
        assert after[0].prompt_ids[: len(before[0].prompt_ids)] == before[0].prompt_ids
    assert engine.asked[-1][0].prompt_ids == episode.token_ids[: -len("stop|")]
    masked = "".join(c for c, own in zip(said, episode.loss_mask, strict=True) if own)
    assert masked == "a|b|stop|"


@pytest.mark.parametrize(
    ("replies", "limits", "ended", "turns"),
    [
        (["a", "b", "c"], Limits(turns=2), Ending.TURNS, 2),
        (["a", "stop"], Limits(turns=2), Ending.DONE, 2),
        # go + a| + \na\n is 2 + 2 + 3 = 7 tokens, and 10 more may come
        (["a", "stop"], Limits(tokens=17), Ending.DONE, 2),
        (["a", "stop"], Limits(tokens=16), Ending.TOKENS, 1),
        (["a", "12345678901"], Limits(), Ending.CUT, 2),
        (["a", None], Limits(), Ending.ENGINE, 2),
        (["a", "bad"], Limits(), Ending.ENVIRONMENT, 2),
    ],
)  # fmt: skip
def test_a_conversation_ends_for_a_reason(
    replies: list[str | None], limits: Limits, ended: Ending, turns: int
) -> None:
    [episode], _ = played({0: replies}, limits)
    assert episode.ended is ended
    assert len(episode.turns) == turns


def test_a_failing_environment_is_no_score_and_counted_and_its_neighbours_are_scored() -> None:
    script = {0: ["bad"], 1: ["a", "stop"], 2: ["stop"]}
    engine = ScriptedEngine(lambda request: script[request.key.sample][request.key.turn])
    source = SynchronousSource(
        [PROBLEM], engine, Chatting(), lambda es: [Score(float(len(e.turns))) for e in es], Sampling(10),
        problems_per_step=1, group_size=3, seed=0, talk=Talk(Echo()),
    )  # fmt: skip
    [group] = source.next(0)
    assert [s.value for s in group.scores] == [None, 2.0, 1.0]
    assert group.scores[0].error == "the environment failed: ZeroDivisionError: oh"
    assert group.scores[0].fault is not None
    assert group.scores[0].fault.kind == "environment"
    assert group.excluded is None


def test_an_environment_that_begins_otherwise_is_refused() -> None:
    talk = Talk(Echo(first_messages=[{"role": "user", "content": "other"}]))
    with pytest.raises(CoveyError, match=r"problem 'p': its environment's first\(\) gives other messages"):
        list(play(attempts(1), ScriptedEngine(["stop"]), Chatting(), Sampling(10), talk))


def test_an_environment_that_cannot_begin_stops_with_its_reason() -> None:
    class Broken(Echo):
        def environment(self, problem: Problem, seed: int) -> Echo:
            raise OSError("no board")

    with pytest.raises(CoveyError, match="problem 'p': its environment can't begin: OSError: no board"):
        list(play(attempts(1), ScriptedEngine(["stop"]), Chatting(), Sampling(10), Talk(Broken())))


def test_a_chat_that_cannot_go_on_is_refused() -> None:
    with pytest.raises(CoveyError, match="can't go on after a reply"):
        list(play(attempts(1), ScriptedEngine(["stop"]), ScriptedChat(), Sampling(10), Talk(Echo())))


def test_each_episode_has_a_seed_of_its_own_and_the_same_one_again() -> None:
    keys = [DrawKey(0, step, "p", sample) for step in range(3) for sample in range(3)]
    assert len({seed_of(key) for key in keys}) == 9
    assert seed_of(DrawKey(0, 1, "p", 2, turn=3)) == seed_of(DrawKey(0, 1, "p", 2))
    echo = Echo()
    for _ in range(2):
        list(play(attempts(2), ScriptedEngine(["stop"]), Chatting(), Sampling(10), Talk(echo)))
    assert echo.seeds[:2] == echo.seeds[2:]
    assert echo.seeds[0] != echo.seeds[1]


def test_without_an_environment_an_episode_is_one_reply() -> None:
    engine = ScriptedEngine(["x"])
    [(index, episode)] = play(attempts(1), engine, ScriptedChat(), Sampling(10))
    assert (index, episode.ended, episode.text, len(episode.turns)) == (0, None, "x", 1)
    assert engine.asked == [(Request(attempts(1)[0].prompt_ids, Sampling(10), DrawKey(7, 3, "p", 0)),)]


class Says:
    """A sampler that answers with one token, and says of it what it is told to."""

    def __init__(self, kept: tuple[tuple[int, ...], ...] | None, stop: StopReason = StopReason.END) -> None:
        self.kept, self.stop = kept, stop

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        for index in range(len(requests)):
            yield index, Completion((9,), (-1.0,), self.stop, 0, "", self.kept)


@pytest.mark.parametrize(
    ("kept", "sampling", "message"),
    [
        (None, Sampling(10, top_k=5), "doesn't say which ids it kept"),
        (((9,),), Sampling(10), "truncated what it was asked to draw from the whole"),
        (((9,), (9,)), Sampling(10, top_k=5), "for 2 of 1 tokens"),
    ],
)
@pytest.mark.parametrize("talk", [None, Talk(Echo())])
def test_a_sampler_tells_what_it_kept_where_it_has_to(
    kept: tuple[tuple[int, ...], ...] | None, sampling: Sampling, message: str, talk: Talk | None
) -> None:
    with pytest.raises(CoveyError, match=f"problem 'p': the engine .*{message}"):
        list(play(attempts(1), Says(kept), Chatting(), sampling, talk))


def test_a_sampler_that_failed_need_not_tell() -> None:
    [(_, episode)] = play(attempts(1), Says(None, StopReason.ERROR), Chatting(), Sampling(10, top_k=5))
    assert episode.failure == "the engine failed"
