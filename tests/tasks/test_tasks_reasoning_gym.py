"""reasoning-gym: all its tasks, the same ones every time, scored as it scores."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.audit.verify import verify
from covey.build import train
from covey.config import parse
from covey.protocols import Split
from covey.records import RunReader
from covey.rewards.gym import packed, scorer, silent, unpacked
from covey.rewards.reasoning_gym import EVALUATED, extracted, score
from covey.rewards.reasoning_gym import ReasoningGym as Reward
from covey.tasks.reasoning_gym import FORMATS, HELDOUT_SEED, ReasoningGym
from covey.types import Completion, CoveyError, Episode, Problem, StopReason, Turn
from small_run import Hears

gym = pytest.importorskip("reasoning_gym", reason="the package reasoning-gym isn't installed")

SPLITS: tuple[Split, ...] = ("train", "heldout")
NO_GOLD = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
NAMES = sorted(set(gym.factory.DATASETS) - {"composite"})  # composite is a mixture, which tasks is already


def reply(problem: Problem, text: str) -> Episode:
    return Episode(problem, 0, (Turn((1,), Completion((2,), (-1.0,), StopReason.END, 0, text)),))


def recorded(problem: Problem) -> Problem:
    """As a record would give it back."""
    columns = json.loads(json.dumps(dict(problem.columns), allow_nan=False))
    return Problem(problem.id, problem.messages, problem.answer, columns)


def check_like_the_library(name: str) -> None:
    task, again = (ReasoningGym(name, problems=2, heldout=1) for _ in range(2))
    problems = [*task.problems("train"), *task.problems("heldout")]
    assert problems == [*again.problems("train"), *again.problems("heldout")]
    assert bool(task.notes) == (name in NO_GOLD)
    with silent():
        dataset = gym.create_dataset(name, seed=0, size=2)
        entries = []
        for index in range(2):
            random.seed(index)  # for list_functions alone, which draws from Python's own generator
            entries.append(dataset[index])
    for problem, entry in zip(task.problems("train"), entries, strict=True):
        assert problem.messages[0]["content"] == f"{entry['question']}\n\n{FORMATS['tags']}"
        assert problem.answer == (None if name in NO_GOLD else entry["answer"])
        answers = [entry["answer"] or "1", "1", "no idea", "[[1, 2], [3, 4]]", str(entries[0]["answer"])]
        for answer in answers:
            try:
                wanted = dataset.score_answer(answer.strip(), entry)
            except Exception:  # it isn't prepared for every text: then there is no score, and it says why
                wanted = None
            [found] = Reward()([reply(recorded(problem), f"So: <answer>{answer}</answer>")])
            assert found.value == wanted, (name, answer, found.error)
            assert (found.error is None) == (wanted is not None)


QUICK = [
    "chain_sum",
    "list_functions",
    "pool_matrix",
    "countdown",
    "spiral_matrix",
    "graph_color",
    "knights_knaves",
    "rearc",
    "time_intervals",
]


@pytest.mark.parametrize("name", QUICK)
def test_a_task_gives_the_same_problems_and_scores_like_the_library(name: str) -> None:
    check_like_the_library(name)


@pytest.mark.slow
def test_at_least_a_hundred_tasks_do() -> None:
    for name in NAMES:
        check_like_the_library(name)
    assert len(NAMES) >= 100
    assert len(set(NAMES) - NO_GOLD) >= 100


def test_what_python_and_numpy_draw_next_is_left_alone() -> None:
    random.seed(7)
    np.random.seed(7)
    wanted = random.random(), np.random.random()
    random.seed(7)
    np.random.seed(7)
    ReasoningGym(["list_functions", "pool_matrix"], problems=2, heldout=1)
    assert (random.random(), np.random.random()) == wanted


def test_no_question_is_on_both_sides_or_comes_twice() -> None:
    easy = {"name": "gcd", "settings": {"min_value": 1, "max_value": 9}}
    task = ReasoningGym([easy], problems=150, heldout=20)
    train, held = task.problems("train"), task.problems("heldout")
    questions = [problem.messages[0]["content"] for problem in (*train, *held)]
    assert len(questions) == len(set(questions)) == len({problem.id for problem in (*train, *held)})
    assert 0 < len(train) < 150  # 81 pairs of numbers: some came twice, some were held out
    assert held


def test_a_side_that_is_left_empty_is_refused() -> None:
    few = {"name": "gcd", "settings": {"min_value": 1, "max_value": 2}}
    with pytest.raises(CoveyError, match="every question of gcd is held out too"):
        ReasoningGym([few], problems=2, heldout=60)


def test_the_seed_moves_both_sides() -> None:
    one, other = (ReasoningGym("chain_sum", problems=20, heldout=5, seed=seed) for seed in (0, 100))
    for split in ("train", "heldout"):
        assert {p.id for p in one.problems(split)} & {p.id for p in other.problems(split)} == set()
    assert HELDOUT_SEED > 2**30


def test_several_tasks_have_their_weights_settings_and_levels() -> None:
    small = {"min_digits": 1, "max_digits": 1}
    task = ReasoningGym(
        ["gcd", {"name": "chain_sum", "weight": 3, "level": 0, "settings": small}], problems=10, heldout=2
    )
    assert [weight for _, weight in task.shares()] == [1.0, 3]
    train = task.problems("train")
    assert sum(count for count, _ in task.shares()) == len(train)
    assert [p.columns["gym_task"] for p in train] == ["gcd"] * 10 + ["chain_sum"] * (len(train) - 10)
    assert train[-1].columns["gym_settings"]["max_digits"] == 1


def test_a_level_is_the_librarys() -> None:
    low, high = (ReasoningGym([{"name": "chain_sum", "level": n}], problems=20, heldout=1) for n in (0, 3))
    terms = [max(len(p.messages[0]["content"].split()) for p in t.problems("train")) for t in (low, high)]
    assert terms[0] < terms[1]


def test_several_levels_are_one_part_from_the_lowest_up() -> None:
    task = ReasoningGym(["chain_sum", {"name": "gcd", "level": [0, 2]}], problems=20, heldout=4)
    train, held = ([p for p in task.problems(s) if p.columns["gym_task"] == "gcd"] for s in SPLITS)
    alone = [
        problem
        for level in range(3)
        for problem in ReasoningGym([{"name": "gcd", "level": level}], 20, 0, seed=20 * level).problems(
            "train"
        )
    ]
    assert train == alone  # no question came twice
    assert (len(train), len(held)) == (60, 12)
    assert task.shares()[1] == (60, 1.0)


def test_a_kind_that_comes_twice_has_no_question_twice() -> None:
    one = {"name": "gcd", "settings": {"min_value": 1, "max_value": 9}}
    task = ReasoningGym([one, {**one, "settings": {"min_value": 1, "max_value": 10}}], problems=60, heldout=5)
    ids = [problem.id for split in SPLITS for problem in task.problems(split)]
    assert len(ids) == len(set(ids))
    assert all(count for count, _ in task.shares())


PAIRS = {"min_numbers": 2, "max_numbers": 2, "min_value": 1, "max_value": 2}  # no two of them make 900


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": [{"name": "gcd", "level": [2, 0]}]}, "the lowest and the highest: .0, 3., not .2, 0."),
        ({"tasks": [{"name": "gcd", "level": [0, 99]}]}, "gcd has levels 0 to"),
        ({"tasks": [{"name": "acre", "level": [0, 1]}]}, "acre has no levels"),
        (
            {"tasks": [{"name": "countdown", "settings": {**PAIRS, "min_target": 900, "max_target": 999}}]},
            "countdown: its level or settings make no problem",
        ),
        ({"tasks": "chain_sums"}, "no task 'chain_sums'. Did you mean 'chain_sum'"),
        ({"tasks": []}, "tasks is a name"),
        ({"tasks": [{"level": 1}]}, "has no name"),
        ({"tasks": [{"name": "gcd", "levels": 1}]}, "gcd: no key 'levels'. Did you mean 'level'"),
        ({"tasks": [{"name": "gcd", "level": 99}]}, "gcd has levels 0 to"),
        ({"tasks": [{"name": "acre", "level": 0}]}, "acre has no levels"),
        ({"tasks": [{"name": "gcd", "settings": {"min": 1}}]}, "gcd refuses its settings.*min_numbers"),
        ({"tasks": [{"name": "gcd", "settings": {"seed": 1}}]}, "seed of gcd isn't a setting"),
        ({"tasks": [{"name": "gcd", "weight": 0}]}, "weight of gcd must be a number above 0"),
        ({"tasks": "gcd", "problems": 0}, "problems must be a whole number from 1"),
        ({"tasks": "gcd", "answer_in": "tag"}, "no place for the answer 'tag'. Did you mean 'tags'"),
    ],
)
def test_what_is_wrong_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CoveyError, match=message):
        ReasoningGym(**arguments)


@pytest.mark.parametrize(
    ("text", "answer_in", "answer"),
    [
        ("<answer> 4 </answer>", "tags", "4"),
        ("<answer>3</answer> or <answer>4</answer>", "tags", None),
        ("<answer>4", "tags", None),
        ("It is 4", "tags", None),
        ("I add.\nAnswer: 4\n", "line", "4"),
        ("Answer: 4\nor 5", "line", None),
        ("Answer:", "line", None),
        ("4 ", "reply", "4"),
    ],
)
def test_an_answer_stands_where_it_was_asked_for(text: str, answer_in: str, answer: str | None) -> None:
    assert extracted(text, answer_in) == answer


def test_a_reply_without_its_answer_scores_nothing() -> None:
    [problem, *_] = ReasoningGym("chain_sum", problems=1, heldout=1).problems("train")
    assert score(f"{problem.answer}", problem).value == 0.0
    assert score(f"<answer>{problem.answer}</answer>", problem).value == 1.0


def test_the_librarys_partial_credit_may_be_left_out() -> None:
    [problem, *_] = ReasoningGym("chain_sum", problems=1, heldout=1).problems("train")
    # the library's default rule: the share of the answer's characters that are the right one
    texts = [f"<answer>{problem.answer}{more}</answer>" for more in ("", str(problem.answer))]
    values = [[s.value for s in Reward(partial=p)([reply(problem, t) for t in texts])] for p in (True, False)]
    assert values == [[1.0, 0.5], [1.0, 0.0]]


HOSTILE = (
    "__import__('os').system('touch touched')",
    "exec('raise SystemExit')",
    "[x for x in ().__class__.__base__.__subclasses__()]",
    "9**9**9**9",
    "((9**99)**99)**99",
    "(" * 900 + "1" + ")" * 900,
    "sin.__globals__",
    "S('__import__(\"os\")')",
    "1" * 5000,
    "exp(1)**exp(9**9999)",
)


@pytest.mark.parametrize("name", EVALUATED)
def test_what_the_library_would_run_as_python_is_not_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [problem, *_] = ReasoningGym([name], problems=1, heldout=1).problems("train")
    dataset = scorer(name, json.dumps(problem.columns["gym_settings"], sort_keys=True))
    given: list[str] = []
    monkeypatch.setattr(dataset, "score_answer", lambda answer, entry: given.append(answer) or 0.0)
    for text in HOSTILE:
        score(f"<answer>{text}</answer>", problem)
    assert given == ["()"] * len(HOSTILE)
    monkeypatch.undo()
    assert score("<answer>()</answer>", problem).value in (0.0, 0.01)  # what those become is right nowhere


_KEYS = st.text(max_size=5) | st.integers() | st.just("tuple")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.floats(allow_nan=False),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.sets(st.integers() | st.text(max_size=3), max_size=3),
            st.dictionaries(_KEYS, inner, max_size=3),
        ),
        max_leaves=12,
    )
)
def test_an_entry_comes_back_from_json_as_it_was(value: object) -> None:
    again = unpacked(json.loads(json.dumps(packed(value, "here"))))
    assert again == value
    assert type(again) is type(value)


def test_what_has_no_form_in_json_is_named() -> None:
    with pytest.raises(CoveyError, match="here: a object has no form in JSON"):
        packed({"a": object()}, "here")


def test_the_reward_wants_its_own_task() -> None:
    with pytest.raises(CoveyError, match="the column 'gym_task'; 'p' has none"):
        Reward().check(Problem("p", ({"role": "user", "content": "?"},), "1"))


def test_a_run_on_it_says_what_has_no_gold_and_verifies(tmp_path: Path) -> None:
    """Scored in processes of their own, and again from the record."""
    recipe = parse(
        {
            "steps": 1,
            "threads": 1,
            "model": {"config": {"hidden_size": 16, "heads": 2, "kv_heads": 1, "context": 2048}},
            "task": {
                "name": "reasoning_gym",
                "tasks": ["chain_sum", "graph_color"],
                "problems": 3,
                "heldout": 1,
            },
            "reward": "reasoning_gym",
            "rollout": {"problems_per_step": 2, "group_size": 2, "max_new_tokens": 4, "draw": "retire"},
            "eval": {"problems": 2, "samples": 1},
        }
    )
    view = Hears()
    run = train(recipe, tmp_path / "run", view=view).run
    assert any("4 reference answers of graph_color don't get full marks" in line for line in view.messages)
    report = verify(run)
    assert report.ok, [str(found) for check in report.checks for found in check.differences]
    scores = [score for group in RunReader(run).groups(0) for score in group.scores]
    assert scores
    assert all(score.value is not None for score in scores)
