"""A mixture: ids of their own, weights, and each problem with its part's reward."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from covey.audit.replay import replay
from covey.audit.verify import verify
from covey.build import assemble, train
from covey.build.components import build_reward, build_task, reaches_out
from covey.config import component_of, load, parse
from covey.protocols import Weighted
from covey.records import RunReader
from covey.rewards.by_part import PART
from covey.tasks.arithmetic import Arithmetic
from covey.tasks.mixture import Mixture, Part
from covey.types import Completion, CoveyError, Episode, Problem, StopReason, Turn

RECIPE = Path(__file__).parents[2] / "recipes" / "mixture.toml"
SUMS = {"label": "sums", "task": {"name": "arithmetic", "high": 20}, "reward": "number", "weight": 2}
COUNT = {"task": {"name": "countdown", "problems": 20}, "reward": "countdown"}


def recipe(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"model": {"config": {}}, "task": {"name": "mixture", "parts": list(parts)}, **more}


def reply(problem: Problem, text: str) -> Episode:
    return Episode(problem, 0, (Turn((1,), Completion((2,), (-1.0,), StopReason.END, 0, text)),))


def test_labels_that_cant_be_told_apart_in_an_id_are_refused() -> None:
    same = Arithmetic(low=0, high=5)
    with pytest.raises(CoveyError, match="'a/b' reads as a problem of 'a'"):
        Mixture([Part("a", same), Part("a/b", same)])


def test_ids_say_their_part_and_are_unique() -> None:
    same = Arithmetic(low=0, high=5)
    task = Mixture([Part("a", same), Part("b", same, 3.0)])
    assert isinstance(task, Weighted)
    ids = [problem.id for split in ("train", "heldout") for problem in task.problems(split)]
    assert len(ids) == len(set(ids)) == 2 * 36
    assert task.shares() == ((len(same.problems("train")), 1.0), (len(same.problems("train")), 3.0))
    [first, *_] = task.problems("train")
    assert first.id == f"a/{same.problems('train')[0].id}"
    assert first.columns == {**same.problems("train")[0].columns, PART: "a"}


def test_the_recipe_has_the_parts_rewards_and_comes_back_the_same() -> None:
    made = parse(recipe(SUMS, COUNT))
    assert made.reward.name == "by_part"
    assert made.reward.params["parts"] == [
        {"part": "sums", "name": "number"},
        {"part": "countdown", "name": "countdown"},
    ]
    assert parse(made.model_dump(mode="json")) == made


def test_each_problem_is_scored_by_its_own_reward() -> None:
    made = parse(recipe(SUMS, COUNT))
    task, reward = build_task(made.task), build_reward(made.reward)
    for problem in (task.problems("train")[0], task.problems("train")[-1]):
        plain, tagged = f"{problem.answer}", f"<answer>{problem.answer}</answer>"
        [bare], [inside] = (reward([reply(problem, text)]) for text in (plain, tagged))
        assert inside.value == 1.0 if problem.columns[PART] == "countdown" else bare.value == 1.0
    # what is right for one isn't for the other
    assert reward([reply(task.problems("train")[-1], f"{task.problems('train')[-1].answer}")])[0].value == 0.0


def test_weights_decide_what_is_drawn_not_sizes() -> None:
    made = parse(recipe(SUMS, COUNT))
    parts = assemble.prepare(made)
    draw = assemble.draw_of(made, parts.task, len(parts.train))
    drawn = Counter(parts.train[index].columns[PART] for index in draw.take(0, 300))
    assert drawn == {"sums": 200, "countdown": 100}


def test_a_part_with_shares_divides_its_own() -> None:
    class Two:
        def problems(self, split: str) -> list[Problem]:
            return [Problem(f"{split}{n}", ({"role": "user", "content": "?"},)) for n in range(4)]

        def shares(self) -> list[tuple[int, float]]:
            return [(1, 1.0), (3, 3.0)]

    assert Mixture([Part("a", Two(), 2.0)]).shares() == ((1, 0.5), (3, 1.5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (recipe(SUMS, SUMS), "two parts are called 'sums'"),
        (recipe({"reward": "number"}), "part 1 has no task"),
        (recipe({**SUMS, "weight": 0}), "weight of 'sums' must be above 0"),
        (recipe({**SUMS, "weight": "2"}), "part 1: weight must be a number"),
        (recipe({**SUMS, "wieght": 2}), "part 1 has no key 'wieght'"),
        (recipe({**SUMS, "task": "arithmetik"}), "did you mean 'arithmetic'.*part 1"),
        (recipe(), "needs parts"),
        (recipe({"task": {"name": "mixture", "parts": [SUMS]}}), "is a mixture itself"),
        (recipe(SUMS, {"task": "guess", "reward": "finished"}), "'guess' has environments"),
        (
            recipe(SUMS, reward="number"),
            "^the recipe: a mixture's rewards stand in its parts: leave .reward. out",
        ),
        (recipe({**SUMS, "reward": {"weight": 2}}), "a part needs a name"),
        (recipe(SUMS, {**COUNT, "reward": "countdwon"}), "did you mean 'countdown'"),
        (recipe({**SUMS, "reward": "countdown"}), "countdown reads the columns numbers"),
        (
            recipe(
                {"task": SUMS["task"]}, reward={"name": "by_part", "parts": [{"part": "b", "name": "number"}]}
            ),
            "is of part 'arithmetic'; there are rewards for: b",
        ),
        (
            {
                **recipe(),
                "task": "arithmetic",
                "reward": {"name": "by_part", "parts": [{"part": "b", "name": "number"}]},
            },
            "is of no part of a mixture",
        ),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CoveyError, match=message):
        assemble.prepare(parse(values))


@pytest.mark.parametrize(
    "part", [{"task": "evil.py:Task"}, {"task": {"name": "jsonl"}, "reward": "evil.py:reward"}]
)
def test_a_stranger_s_code_in_a_part_is_seen(part: dict[str, Any]) -> None:
    found = reaches_out(component_of({"name": "mixture", "parts": [part]}))
    assert found is not None
    assert "the author's own code" in found


def test_a_run_of_it_verifies_and_replays(tmp_path: Path) -> None:
    made = load(
        RECIPE,
        ["--steps", "2", "--threads", "1", "--model.config.hidden_size", "16", "--rollout.group_size", "2"],
    )
    run = train(made, tmp_path / "run").run
    drawn = Counter(group.problem.columns[PART] for step in range(2) for group in RunReader(run).groups(step))
    assert drawn["sums"] == pytest.approx(2 * drawn["countdown"], abs=3)
    parts = (RunReader(run).summary() or {})["parts"]
    assert sum(part["before"]["problems"] for part in parts.values()) == 10
    assert list(parts) == ["sums", "countdown"]
    report = verify(run)
    assert report.ok, [str(found) for check in report.checks for found in check.differences]
    assert replay(run, steps=2).ok
