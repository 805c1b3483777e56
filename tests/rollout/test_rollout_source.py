"""Groups from a scripted engine: which are trained on, which replaced, and what is told as an error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from covey.engines import LocalEngine
from covey.engines.scripted import ScriptedChat, ScriptedEngine
from covey.models import load_policy
from covey.protocols import Reward, Source
from covey.rollout import SynchronousSource
from covey.rollout.filters import exclusion
from covey.types import CoveyError, Episode, Group, Problem, Request, Sampling, Score, StopReason

PROBLEMS = tuple(Problem(f"p{n}", ({"role": "user", "content": f"{n}"},), answer=f"{n}") for n in range(6))


def exact(episodes: Sequence[Episode]) -> list[Score]:
    """1 for ``right``, 0 for anything else; ``?`` can't be graded."""
    assert len({episode.problem.id for episode in episodes}) == 1
    return [Score(None, error="?") if e.text == "?" else Score(float(e.text == "right")) for e in episodes]


def source_of(
    replies: Sequence[str | None] | Callable[[Request], str | None],
    reward: Reward = exact,
    problems: Sequence[Problem] = PROBLEMS,
    **changes: Any,
) -> SynchronousSource:
    settings = {"problems_per_step": 3, "group_size": 2, "seed": 0, "refills": 1, **changes}
    return SynchronousSource(
        problems, ScriptedEngine(replies), ScriptedChat(), reward, Sampling(8), **settings
    )


def asked(source: SynchronousSource) -> list[tuple[Request, ...]]:
    assert isinstance(source.sampler, ScriptedEngine)
    return source.sampler.asked


def test_a_step_is_so_many_groups_of_so_many_episodes() -> None:
    source = source_of(["right", "wrong"])
    assert isinstance(source, Source)
    groups = source.next(0)
    assert [len(group.episodes) for group in groups] == [2, 2, 2]
    assert len({group.problem.id for group in groups}) == 3
    for group in groups:
        assert group.excluded is None
        assert [episode.sample for episode in group.episodes] == [0, 1]
        assert [episode.text for episode in group.episodes] == ["right", "wrong"]
        assert [score.value for score in group.scores] == [1.0, 0.0]
        [turn] = group.episodes[0].turns
        assert turn.context_ids == tuple(map(ord, group.problem.messages[0]["content"]))
    assert len(asked(source)) == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((1.0, 0.0), None),
        ((1.0, None, 0.5), None),
        ((1.0, 1.0), "zero variance"),
        ((0.0, 0.0, None), "zero variance"),
        ((1.0, None), "unscored"),
        ((None, None), "unscored"),
        ((), "unscored"),
    ],
)
def test_what_can_t_teach_is_excluded(values: Sequence[float | None], reason: str | None) -> None:
    assert exclusion([Score(value) for value in values]) == reason


@pytest.mark.parametrize("refills", [0, 1, 4])
@pytest.mark.parametrize(("reply", "reason"), [("right", "zero variance"), ("?", "unscored")])
def test_refills_are_bounded(refills: int, reply: str, reason: str) -> None:
    """Groups without a signal are recorded, excluded and replaced, but not for ever."""
    source = source_of([reply, reply], refills=refills)
    groups = source.next(0)
    # 3 in the first round, and 3 more in each refill, since none of them ever counts
    assert [group.excluded for group in groups] == [reason] * (3 * (1 + refills))
    assert [len(requests) for requests in asked(source)] == [6] * (1 + refills)
    assert source.state() == {"drawn": 3 * (1 + refills)}


def test_only_what_is_missing_is_refilled() -> None:
    dull = {"p0", "p1"}

    def reply(request: Request) -> str:
        return "right" if request.key.sample or request.key.problem_id in dull else "wrong"

    source = source_of(reply, problems_per_step=6, refills=3)
    groups = source.next(0)
    # all six problems; two of them are dull. The next epoch begins with its first two, and so on
    first, rest = groups[:6], groups[6:]
    assert {group.problem.id for group in first} == {problem.id for problem in PROBLEMS}
    assert Counter(group.excluded for group in first) == {None: 4, "zero variance": 2}
    assert sum(group.excluded is None for group in groups) == 6
    assert len(rest) == 2 + sum(group.excluded is not None for group in rest)
    assert all((group.excluded is not None) == (group.problem.id in dull) for group in groups)


def test_a_failed_episode_is_never_graded() -> None:
    """The engine's failure is no wrong answer: the grader doesn't see it, and there is no score."""
    seen: list[list[str]] = []

    def keep(episodes: Sequence[Episode]) -> list[Score]:
        seen.append([episode.text for episode in episodes])
        return exact(episodes)

    source = source_of(["right", None, "wrong"], keep, group_size=3, problems_per_step=1)
    [group] = source.next(0)
    assert seen == [["right", "wrong"]]
    assert [episode.stop for episode in group.episodes] == [StopReason.END, StopReason.ERROR, StopReason.END]
    assert group.scores == (Score(1.0), Score(None, error="the engine failed"), Score(0.0))
    assert group.excluded is None
    [*_, last] = source_of([None, None], keep, problems_per_step=1, refills=0).next(0)
    assert last.excluded == "unscored"
    assert seen == [["right", "wrong"]]


def test_a_finished_group_is_graded_while_others_are_sampled() -> None:
    """A reward that can work meanwhile is given each group as it ends, and asked for scores at the end."""
    told: list[str] = []

    class Later:
        def __call__(self, episodes: Sequence[Episode]) -> Sequence[Score]:
            return self.submit(episodes)()

        def submit(self, episodes: Sequence[Episode]) -> Callable[[], Sequence[Score]]:
            told.append("given")

            def scores() -> Sequence[Score]:
                told.append("asked")
                return exact(episodes)

            return scores

    def reply(request: Request) -> str:
        return "right" if request.key.sample else "wrong"

    later, now = source_of(reply, Later()), source_of(reply)
    assert later.next(0) == now.next(0)
    assert told == ["given"] * 3 + ["asked"] * 3


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_reward_that_returns_another_number_of_scores_is_told(count: int) -> None:
    source = source_of(["right", "wrong"], lambda episodes: [Score(1.0)] * count)
    message = (
        rf"the reward returned {count} scores for 2 completions of problem 'p\d'; it must return one for each"
    )
    with pytest.raises(CoveyError, match=message):
        source.next(0)


def test_a_prompt_beyond_the_limit_is_told() -> None:
    long = Problem("row 7", ({"role": "user", "content": "x" * 11},))
    assert source_of(["right"], problems=[long], problems_per_step=1, max_prompt_tokens=11).next(0)
    source = source_of(["right"], problems=[long], problems_per_step=1, max_prompt_tokens=10)
    with pytest.raises(
        CoveyError, match=r"problem 'row 7' has a prompt of 11 tokens, more than rollout\.max_prompt"
    ):
        source.next(0)
    assert asked(source) == []


# Draws.


def test_every_draw_of_a_run_has_a_key_of_its_own() -> None:
    source = source_of(["same"], problems=PROBLEMS[:2], problems_per_step=5, refills=2)
    for step in range(3):
        source.next(step)
    keys = [request.key for requests in asked(source) for request in requests]
    # 3 steps × 3 rounds × 5 problems × 2 samples, of two problems only
    assert len(keys) == len(set(keys)) == 90
    assert {key.purpose for key in keys} == {"train", *(f"train/{n}" for n in range(1, 8))}
    assert {key.seed for key in keys} == {0}


def test_the_first_draw_of_a_problem_does_not_depend_on_its_company() -> None:
    def keys(**changes: Any) -> dict[str, set[Any]]:
        source = source_of(["right", "wrong"], **changes)
        source.next(4)
        found: dict[str, set[Any]] = {}
        for request in asked(source)[0]:
            found.setdefault(request.key.problem_id, set()).add(request.key)
        return found

    some, all_of_them = keys(problems_per_step=3), keys(problems_per_step=6)
    reversed_order = keys(problems_per_step=6, problems=PROBLEMS[::-1])
    assert all_of_them == reversed_order
    assert some.items() <= all_of_them.items()


def test_a_problem_gets_the_same_completions_whoever_shares_the_step() -> None:
    """The same with a real model: beside one problem or nine, early or late in the step."""
    policy = load_policy({"family": "llama", "hidden_size": 32}, dtype="float32")
    problems = [Problem(f"{a}+1", ({"role": "user", "content": f"{a}+1="},), answer="1") for a in range(9)]

    def step(chosen: Sequence[Problem]) -> dict[str, Group]:
        source = SynchronousSource(
            chosen, LocalEngine(policy), policy.chat, exact, Sampling(6),
            problems_per_step=len(chosen), group_size=3, seed=1, refills=0,
        )  # fmt: skip
        return {group.problem.id: group for group in source.next(2)}

    def replies(group: Group) -> list[tuple[int, ...]]:
        return [episode.turns[0].completion.token_ids for episode in group.episodes]

    together, backwards = step(problems), step(problems[::-1])
    for problem in problems[:3]:
        [alone] = step([problem]).values()
        assert replies(alone) == replies(together[problem.id]) == replies(backwards[problem.id])
    assert len({ids for group in together.values() for ids in replies(group)}) > 20  # 27 when all differ


# State.


def test_a_stream_is_continued_from_its_state() -> None:
    whole, first = source_of(["right", "right"]), source_of(["right", "right"])
    expected = [[group.problem.id for group in whole.next(step)] for step in range(5)]
    [first.next(step) for step in range(2)]
    state = json.loads(json.dumps(first.state()))
    second = source_of(["right", "right"])
    second.restore(state)
    assert [[group.problem.id for group in second.next(step)] for step in range(2, 5)] == expected[2:]
    assert asked(second) == asked(whole)[4:]  # two rounds a step
