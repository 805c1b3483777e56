"""Rewards as a recipe writes them: combined ones, functions of any style, and what a typo is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from covey.build.components import build_reward, reaches_out
from covey.config import Component, parse
from covey.rewards.combine import Combine
from covey.types import Completion, CoveyError, Episode, Problem, Score, StopReason, Turn

OWN = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": float(solution_str == ground_truth), "length": len(solution_str)}

def either(**kwargs):
    return float(kwargs["solution_str"] == kwargs["ground_truth"])

def of_strings(completions, answer):
    return [float(reply.strip() == gold) for reply, gold in zip(completions, answer)]

def needy(completions, level):
    return [float(n) for n in level]
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


def score(reward: Any, text: str, answer: str = "83") -> Score:
    made = build_reward(parse({"model": {"name": "x/y"}, "task": "arithmetic", "reward": reward}).reward)
    completion = Completion((5,), None, StopReason.END, 0, text)
    problem = Problem("p", ({"role": "user", "content": "44 + 39?"},), answer)
    return made([Episode(problem, 0, (Turn((1,), completion),))])[0]


def complaint(reward: Any) -> str:
    with pytest.raises(CoveyError) as error:
        score(reward, "")
    return str(error.value)


def combine(*parts: Any) -> dict[str, Any]:
    return {"name": "combine", "parts": list(parts)}


def test_parts_by_name_with_weights_and_parameters(own: str) -> None:
    reward = combine(
        {"name": "number", "weight": 2},
        {"name": "exact", "weight": 0.5, "ignore_case": True, "label": "whole"},
        {"name": f"{own}:compute_score", "label": "own", "weight": 0.25},
    )
    assert score(reward, "83") == Score(2.75, {"number": 1.0, "whole": 1.0, "own": 1.0, "own.length": 2.0})
    assert score(reward, "x 83").value == 2.0


def test_format_is_a_gate_unless_it_has_a_weight() -> None:
    good, bare = "<think>so</think><answer>83</answer>", "83"
    gate = combine({"name": "exact", "tag": "answer"}, "format")
    assert (score(gate, good).value, score(gate, bare).value) == (1.0, 0.0)
    gate = combine("number", "format")
    assert (score(gate, good).value, score(gate, bare).value) == (1.0, 0.0)
    added = combine("number", {"name": "format", "weight": 0.1})
    assert (score(added, good).value, score(added, bare).value) == (1.1, 1.0)
    added = combine("number", {"name": "format", "gate": False})
    assert score(added, good).value == 2.0
    made_one = combine("number", {"name": "exact", "gate": True})
    assert (score(made_one, "83").value, score(made_one, "it is 83").value) == (1.0, 0.0)


def test_an_oracle_and_an_optional_part() -> None:
    reward = combine("number", {"name": "choice", "optional": True}, {"name": "exact", "oracle": True})
    assert score(reward, "it is 83") == Score(1.0, {"number": 1.0, "choice": None, "exact": 0.0})


def test_a_combined_reward_within_another() -> None:
    inner = combine("number", {"name": "exact", "weight": 0.5}) | {"label": "inner", "weight": 2.0}
    assert score(combine(inner), "83").parts == {"inner": 1.5, "inner.number": 1.0, "inner.exact": 1.0}


def test_a_function_takes_a_style(own: str) -> None:
    assert score({"name": f"{own}:either", "style": "verl"}, "83") == Score(1.0)
    assert score(f"{own}:either", "83").value is None
    assert "one of trl, verl, openrlhf, not 'tlr'" in complaint({"name": f"{own}:either", "style": "tlr"})


def test_a_function_of_strings_gets_them_when_the_recipe_says_so(own: str) -> None:
    name = f"{own}:of_strings"
    assert "'list' object has no attribute 'strip'" in str(score(name, "83").error)
    assert score({"name": name, "plain": True}, "83") == Score(1.0)
    assert score(combine({"name": name, "plain": True, "weight": 2.0}), "83").value == 2.0
    assert "only in TRL's style, not verl's" in complaint({"name": f"{own}:compute_score", "plain": True})
    assert "plain is true or false" in complaint({"name": name, "plain": "yes"})


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (combine(), "needs parts, a list of rewards"),
        ({"name": "combine"}, "needs parts, a list of rewards"),
        ({"name": "combine", "prats": []}, "'combine' has no parameter 'prats'; it takes: parts"),
        (combine({"weight": 1}), 'part 1 has no name; it is written {name = "number"}'),
        (combine("number", 3), "part 2 has no name"),
        (combine("numbr"), "unknown reward 'numbr'; did you mean 'number'?"),
        (
            combine({"name": "exact", "ignorecase": True}),
            "no parameter 'ignorecase'; did you mean 'ignore_case'?",
        ),
        (combine({"name": "number", "wieght": 1}), "'number' has no parameter 'wieght'; it takes: none"),
        (combine({"name": "number", "wieght": 1}), "of a part of combine did you mean 'weight'?"),
        (combine({"name": "number", "weight": "1"}), "weight of part 1 must be a number, not '1'"),
        (combine({"name": "number", "weight": True}), "weight of part 1 must be a number, not True"),
        (combine({"name": "number", "gate": 1}), "gate of part 1 must be true or false, not 1"),
        (
            combine({"name": "number", "gate": True, "oracle": True}),
            "it is a gate, an oracle, or has a weight",
        ),
        (
            combine({"name": "number", "gate": True, "weight": 1.0}),
            "it is a gate, an oracle, or has a weight",
        ),
        (combine("number", "number"), "two parts are called 'number'"),
        (combine("format"), "needs a part that is added"),
        (combine({"name": "number", "weight": float("nan")}), "weight of part 'number' must be a number"),
        ({"name": "choice", "letters": "a"}, "letters are two capitals or more"),
    ],
)
def test_what_is_wrong_with_a_reward_is_said(reward: Any, said: str) -> None:
    assert said in complaint(reward)


def test_a_part_says_which_column_it_needs(own: str) -> None:
    made = build_reward(Component.model_validate(combine("number", f"{own}:needy")))
    assert isinstance(made, Combine)
    with pytest.raises(CoveyError, match="reward needy needs a column 'level'"):
        made.check(Problem("p", (), "83"))


def test_own_code_is_found_however_deep_it_stands(own: str) -> None:
    def found(reward: Any) -> str | None:
        return reaches_out(Component.model_validate(reward))

    assert found({"name": "number"}) is None
    assert found(combine("number", {"name": "format", "tags": ["a", "b"]})) is None
    for deep in (
        {"name": f"{own}:f"},
        combine("number", f"{own}:f"),
        combine("number", {"name": f"{own}:f", "weight": 0.0}),
        combine("number", combine({"name": f"{own}:f"})),
    ):
        assert "the author's own code" in str(found(deep))


@pytest.mark.parametrize("name", ["judge", "remote"])
def test_what_asks_a_server_is_found_however_deep_it_stands(name: str) -> None:
    for reward in ({"name": name}, combine("number", combine({"name": name, "optional": True}))):
        assert reaches_out(Component.model_validate(reward)) == f"{name!r} asks a server"
