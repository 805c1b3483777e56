"""From groups to micro-batches: what is trained on, what each token weighs, what goes through at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from covey.algo import preset
from covey.learn.batch import MicroBatch, Trained, prepare, split
from covey.models import Policy
from covey.types import Completion, CoveyError, Episode, Group, Problem, Score, StopReason, Turn

MOST = 20


def episode(problem: Problem, sample: int, length: int) -> Episode:
    ids = tuple(range(10, 10 + length))
    completion = Completion(ids, (-1.0,) * length, StopReason.END, 0)
    return Episode(problem, sample, (Turn((7,) * 5, completion),))


def group(
    name: str, rewards: Sequence[float | None], lengths: Sequence[int], excluded: str | None = None
) -> Group:
    problem = Problem(name, ())
    episodes = tuple(episode(problem, s, length) for s, length in enumerate(lengths))
    return Group(problem, episodes, tuple(Score(value) for value in rewards), excluded)


MIXED = [
    group("a", (1.0, 0.0, 0.5), (3, 1, 6)),
    group("b", (1.0, 1.0), (2, 2), excluded="zero variance"),
    group("c", (0.0, None, 1.0), (4, 9, 2)),
    group("d", (None, None), (5, 5), excluded="unscored"),
]


@pytest.mark.parametrize("name", ["modern", "grpo", "dapo", "gspo"])
def test_a_step_s_weights_sum_to_one(name: str) -> None:
    sequences = prepare(preset(name), MIXED, MOST)
    assert sum(s.weight * sum(s.chosen) for s in sequences) == pytest.approx(1.0, abs=1e-12)


def test_a_constant_length_weighs_every_token_alike() -> None:
    # Dr. GRPO: 5 scored sequences of at most 20 tokens, 1 / (5 × 20)
    assert {s.weight for s in prepare(preset("dr-grpo"), MIXED, MOST)} == {0.01}


@pytest.mark.parametrize("name", ["modern", "grpo", "dr-grpo", "dapo", "gspo"])
def test_what_is_excluded_leaves_no_trace(name: str) -> None:
    """Neither a whole group nor an unscored episode moves a baseline or a weight."""
    clean = [group("a", (1.0, 0.0, 0.5), (3, 1, 6)), group("c", (0.0, 1.0), (4, 2))]
    have, want = prepare(preset(name), MIXED, MOST), prepare(preset(name), clean, MOST)
    assert [(s.group, s.sample) for s in have] == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 2)]
    places = [(s.group, s.sample) for s in want]
    assert [replace(s, group=g, sample=n) for s, (g, n) in zip(have, places, strict=True)] == want


def test_advantages_are_taken_within_a_group() -> None:
    sequences = prepare(preset("modern"), MIXED, MOST)
    # a: mean (1 + 0 + 0.5) / 3 = 0.5; c: mean (0 + 1) / 2 = 0.5
    assert [s.advantage for s in sequences] == [0.5, -0.5, 0.0, -0.5, 0.5]


def test_nothing_scored_is_nothing_trained() -> None:
    assert prepare(preset("modern"), [MIXED[1], MIXED[3]], MOST) == []
    assert prepare(preset("modern"), [], MOST) == []
    assert list(split([], 10)) == []


def test_without_sampler_log_probs_there_is_no_training() -> None:
    problem = Problem("row 3", ())
    blind = Episode(problem, 1, (Turn((1,), Completion((2,), None, StopReason.END, 0)),))
    mixed = Group(problem, (episode(problem, 0, 2), blind), (Score(1.0), Score(0.0)))
    with pytest.raises(CoveyError, match=r"problem 'row 3': the engine reported no log-probs, so sample 1"):
        prepare(preset("modern"), [mixed], MOST)
    unscored = replace(mixed, scores=(Score(1.0), Score(None)))
    assert [s.sample for s in prepare(preset("modern"), [unscored], MOST)] == [0]


def test_of_a_conversation_only_the_policy_s_own_tokens_are_chosen() -> None:
    problem = Problem("talk", ())

    def turn(context: int, reply: int) -> Turn:
        return Turn((7,) * context, Completion((8,) * reply, (-1.0,) * reply, StopReason.END, 0))

    talk = Episode(problem, 0, (turn(4, 2), turn(3, 1)))
    short = Episode(problem, 1, (turn(4, 2),))
    both = Group(problem, (talk, short), (Score(1.0), Score(0.0)))
    [first, second] = prepare(preset("modern"), [both], MOST)
    assert first.prompt == (7,) * 4
    assert first.reply == (8, 8, 7, 7, 7, 8)
    assert first.chosen == (True, True, False, False, False, True)
    # 3 + 2 chosen tokens in all
    assert first.weight == second.weight == pytest.approx(1 / 5)


def trained(group: int, sample: int, prompt: tuple[int, ...], reply: int) -> Trained:
    return Trained(group, sample, prompt, (9,) * reply, (True,) * reply, (-1.0,) * reply, 1.0, 1.0)


def test_a_prompt_counts_once_for_all_its_replies() -> None:
    one = MicroBatch(tuple(trained(0, s, (1,) * 10, 4) for s in range(3)))
    assert one.tokens == 10 + 3 * 4
    two = MicroBatch((*one.sequences, trained(1, 0, (2,) * 6, 5)))
    assert two.tokens == 22 + 6 + 5


@given(
    groups=st.lists(
        st.tuples(st.integers(1, 12), st.lists(st.integers(1, 15), min_size=1, max_size=6)), max_size=6
    ),
    budget=st.integers(1, 120),
)
def test_a_split_keeps_order_and_budget(groups: list[tuple[int, list[int]]], budget: int) -> None:
    sequences = [
        trained(g, s, (g + 1,) * prompt, reply)
        for g, (prompt, replies) in enumerate(groups)
        for s, reply in enumerate(replies)
    ]
    parts = list(split(sequences, budget))
    assert [s for part in parts for s in part.sequences] == sequences
    assert all(part.tokens <= budget or len(part.sequences) == 1 for part in parts)
    members = [tuple(several) for _, several in groupby(sequences, key=lambda s: s.group)]
    # a group is cut only when it alone is too large
    for whole in members:
        if MicroBatch(whole).tokens <= budget:
            assert any(set(whole) <= set(part.sequences) for part in parts)
    # and what begins a micro-batch, a group or a piece of one, had no room in the one before
    for one, other in pairwise(parts):
        first = other.sequences[0]
        more = members[first.group] if first.sample == 0 else (first,)
        assert MicroBatch((*one.sequences, *more)).tokens > budget


def test_packing_says_where_everything_is(policy_of: Callable[..., Policy]) -> None:
    first = Trained(0, 0, (3, 4, 5), (6, 7), (True, True), (-1.0, -1.0), 1.0, 0.5)
    talk = Trained(0, 1, (3, 4, 5), (8, 9, 10), (True, False, True), (-1.0, -1.0), 1.0, 0.5)
    packed = MicroBatch((first, talk)).pack(policy_of())
    assert packed.token_ids.tolist() == [3, 4, 5, 6, 7, 8, 9, 10]
    # the first token of each reply is predicted by the prompt's last, at 2; 9 is the environment's
    assert packed.chosen.tolist() == [6, 7, 8, 10]
    assert packed.predictors.tolist() == [2, 3, 2, 6]
    assert packed.sequence.tolist() == [0, 0, 1, 1]
    assert packed.token_ids.dtype is torch.long


def cut(own: Group, *samples: int) -> Group:
    """The group with some of its episodes ended by the length limit."""

    def ended(e: Episode) -> Episode:
        completion = replace(e.turns[-1].completion, stop=StopReason.LENGTH)
        return replace(e, turns=(*e.turns[:-1], replace(e.turns[-1], completion=completion)))

    episodes = tuple(ended(e) if e.sample in samples else e for e in own.episodes)
    return replace(own, episodes=episodes)


def test_masked_truncated_episodes_are_in_the_baseline_and_in_nothing_else() -> None:
    groups = [cut(group("a", (1.0, 0.0, 0.5), (3, 1, 6)), 2), group("c", (0.0, 1.0), (4, 2))]
    sequences = prepare(preset("modern").replace(truncated="masked"), groups, MOST)
    assert [(s.group, s.sample) for s in sequences] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    # a's mean is still (1 + 0 + 0.5) / 3 = 0.5; of 16 tokens the 10 that were not cut off are trained
    assert [s.advantage for s in sequences] == [0.5, -0.5, -0.5, 0.5]
    assert {s.weight for s in sequences} == {0.1}
    # the prompt mean is over the two prompts, of 3 + 1 and 4 + 2 tokens
    by_prompt = prepare(preset("dapo").replace(truncated="masked"), groups, MOST)
    assert [s.weight for s in by_prompt] == [1 / 2 / 4] * 2 + [1 / 2 / 6] * 2


def test_truncated_episodes_are_like_any_other_by_default() -> None:
    whole, cut_off = (group("a", (1.0, 0.0), (3, 2)), cut(group("a", (1.0, 0.0), (3, 2)), 0, 1))
    assert prepare(preset("modern"), [whole], MOST) == prepare(preset("modern"), [cut_off], MOST)
    assert prepare(preset("modern").replace(truncated="masked"), [cut_off], MOST) == []


def test_a_group_that_is_cut_off_whole_leaves_the_mini_batches_to_the_others() -> None:
    groups = [cut(group(n, (1.0, 0.0), (3, 2)), *(range(2) if n == "b" else ())) for n in "abc"]
    masked = preset("modern").replace(truncated="masked")
    sequences = prepare(masked, groups, MOST, parts=2)
    # two optimizer steps, of a's and c's five tokens each
    assert [(s.group, s.weight) for s in sequences] == [(0, 0.2), (0, 0.2), (2, 0.2), (2, 0.2)]
