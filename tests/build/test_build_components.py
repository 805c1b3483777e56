"""Parts by name: Covey's own, a user's file or package; and what is said when there is no such part."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.build import assemble
from covey.build.assemble import Parts, prepare
from covey.config import parse
from covey.models import load_policy
from covey.rewards.functions import FunctionReward
from covey.rewards.pooled import Pooled
from covey.types import Completion, CoveyError, Episode, Problem, Score, StopReason, Turn

TINY = {"config": {"family": "llama", "hidden_size": 16}}

OWN = """
from __future__ import annotations
from dataclasses import dataclass
from covey.types import Problem, Score

def brief(completions: list[str], answer: list[str], **columns):
    return [float(reply == gold) for reply, gold in zip(completions, answer)]

def levelled(completions, level):
    return [0.0 for _ in completions]

@dataclass
class Length:
    most: int = 10
    def __call__(self, episodes):
        if self.most < 0:
            raise ValueError("most must not be negative")
        return [Score(float(len(e.text) <= self.most)) for e in episodes]

ready = Length(most=3)

@dataclass
class Countdown:
    start: int
    def problems(self, split):
        held = split == "heldout"
        return tuple(
            Problem(str(n), ({"role": "user", "content": f"{n}"},), answer=str(n - 1))
            for n in range(self.start) if (n % 3 == 0) == held
        )

def short_countdown():
    return Countdown(6)

standing = Countdown(9)

class Empty:
    def problems(self, split):
        return ()

number = 7
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, where he stands: ``own.py``, and the package ``mine.parts`` with the same."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "parts.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("mine", "covey_own_own")]:
        del sys.modules[name]


def parts(**sections: Any) -> Parts:
    return prepare(parse({"model": TINY, "task": "arithmetic", **sections}))


def complaint(**sections: Any) -> str:
    with pytest.raises(CoveyError) as caught:
        parts(**sections)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def scores(found: Parts, *texts: str, answer: str = "1", **columns: Any) -> list[float | None]:
    problem = Problem("p", ({"role": "user", "content": "?"},), answer, columns)
    episodes = [
        Episode(problem, n, (Turn((1,), Completion((2,), (-1.0,), StopReason.END, 0, text)),))
        for n, text in enumerate(texts)
    ]
    return [score.value for score in found.reward(episodes)]


# A user's own.


@pytest.mark.parametrize("where", ["own.py", "mine.parts"])
def test_an_own_reward(own: Path, where: str) -> None:
    function = parts(reward=f"{where}:brief")
    assert isinstance(function.reward, Pooled)
    assert isinstance(function.reward.reward, FunctionReward)
    assert scores(function, "1", "2") == [1.0, 0.0]
    assert scores(parts(reward=f"{where}:Length"), "1" * 10, "1" * 11) == [1.0, 0.0]
    assert scores(parts(reward={"name": f"{where}:Length", "most": 2}), "12", "123") == [1.0, 0.0]
    # an instance is a reward already: it is called with episodes, not with TRL's lists
    assert scores(parts(reward=f"{where}:ready"), "123", "1234") == [1.0, 0.0]


@pytest.mark.parametrize("where", ["own.py", "mine.parts"])
def test_an_own_task(own: Path, where: str) -> None:
    made = parts(task={"name": f"{where}:Countdown", "start": 7})
    assert [problem.id for problem in made.train] == ["1", "2", "4", "5"]
    assert sorted(problem.id for problem in made.heldout) == ["0", "3", "6"]
    assert len(parts(task=f"{where}:short_countdown").train) == 4
    assert len(parts(task=f"{where}:standing").train) == 6


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"reward": "own.py:breif"}, "[reward] own.py has no 'breif'; did you mean 'brief'?"),
        ({"reward": "mine.parts:zzz"}, "[reward] mine.parts has no 'zzz'"),
        ({"reward": "nowhere.py:brief"}, "[reward] there is no file nowhere.py"),
        (
            {"reward": "nowhere.parts:brief"},
            "[reward] can't import 'nowhere.parts': ModuleNotFoundError: No module named 'nowhere'",
        ),
        ({"reward": ":brief"}, "[reward] can't import '': ValueError: Empty module name"),
        ({"reward": "own.py:number"}, "[reward] 'own.py:number' isn't a reward: it can't be called"),
        (
            {"reward": {"name": "own.py:brief", "most": 3}},
            "[reward] 'own.py:brief' has no parameter 'most'; it takes: style, plain",
        ),
        (
            {"reward": {"name": "own.py:Length", "mots": 3}},
            "[reward] 'own.py:Length' has no parameter 'mots'; did you mean 'most'?",
        ),
        # what the function needs and the task's rows don't have is known before anything is sampled
        ({"reward": "own.py:levelled"}, "reward levelled needs a column 'level' that problem "),
        ({"task": "own.py:Countdown"}, "[task] 'own.py:Countdown' needs start"),
        ({"task": "own.py:Empty"}, "[task] 'own.py:Empty' has no training problems"),
        ({"task": "own.py:Length"}, "[task] 'own.py:Length' isn't a task: it has no method problems(split)"),
        ({"task": "own.py:number"}, "[task] 'own.py:number' isn't a task: it has no method problems(split)"),
        (
            {"task": {"name": "own.py:standing", "start": 3}},
            "[task] 'own.py:standing' isn't a class: it takes no",
        ),
    ],
)
def test_an_own_part_that_isn_t_there(own: Path, sections: dict[str, Any], message: str) -> None:
    assert complaint(**sections).startswith(message)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(:\n", "[reward] can't import 'bad.py': SyntaxError: invalid syntax (bad.py, line 1)"),
        (
            "x = 1\nundefined\n",
            "[reward] can't import 'bad.py': NameError: name 'undefined' is not defined (bad.py, line 2)",
        ),
        (
            "import nowhere\n",
            "[reward] can't import 'bad.py': ModuleNotFoundError: No module named 'nowhere'",
        ),
    ],
)
def test_an_own_file_that_can_t_be_imported(own: Path, code: str, message: str) -> None:
    (own / "bad.py").write_text(code)
    assert complaint(reward="bad.py:f") == message


# Covey's own.


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"task": "arithmetics"},
            "unknown task 'arithmetics'; did you mean 'arithmetic'? an own one is written",
        ),
        ({"task": "zzz"}, "unknown task 'zzz'; there are: arithmetic, calculator, countdown, "),
        ({"reward": "numbr"}, "unknown reward 'numbr'; did you mean 'number'?"),
        (
            {"task": {"name": "arithmetic", "hgih": 9}},
            "[task] 'arithmetic' has no parameter 'hgih'; did you mean 'high'?",
        ),
        (
            {"task": {"name": "arithmetic", "zzz": 9}},
            "[task] 'arithmetic' has no parameter 'zzz'; it takes: operations, ",
        ),
        ({"task": {"name": "arithmetic", "low": 9, "high": 1}}, "arithmetic: low must not be above high"),
        ({"task": "jsonl"}, "[task] 'jsonl' needs path"),
        ({"task": {"name": "jsonl", "path": "nowhere.jsonl"}}, "nowhere.jsonl: No such file or directory"),
        (
            {"reward": {"name": "number", "digits": 3}},
            "[reward] 'number' has no parameter 'digits'; it takes: none",
        ),
        ({"algorithm": {"preset": "modrn"}}, "[algorithm] unknown algorithm 'modrn'; did you mean 'modern'?"),
        ({"algorithm": {"kl": "k33"}}, "[algorithm] unknown kl 'k33'; did you mean 'k3'?"),
        (
            {"algorithm": {"surrogate": {"name": "clip", "lo": 0.2}}},
            "[algorithm] surrogate 'clip' has no parameter 'lo'; did you mean 'low'?",
        ),
        ({"rollout": {"engine": "locale"}}, "[rollout] unknown engine 'locale'; did you mean 'local'?"),
        (
            {"rollout": {"engine": {"name": "local", "slot": 3}}},
            "[rollout.engine] 'local' has no parameter 'slot'; did you mean 'slots'?",
        ),
        (
            {"rollout": {"engine": {"name": "local", "policy": 3}}},
            "[rollout.engine] 'local' has no parameter 'policy'",
        ),
        ({"model": {"name": "./nowhere"}}, "no model at './nowhere': give an existing folder"),
    ],
)
def test_a_mistake_is_told_before_any_weights_are_loaded(
    monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(assemble, "load_policy", lambda *args, **kwargs: pytest.fail("weights were loaded"))
    assert complaint(**sections).startswith(message)


def test_an_engine_takes_its_parameters() -> None:
    policy = load_policy(TINY["config"], dtype="float32")
    recipe = parse(
        {"model": TINY, "task": "arithmetic", "rollout": {"engine": {"name": "local", "slots": 3}}}
    )
    assert assemble.engine_of(recipe, policy).slots == 3  # pyright: ignore[reportAttributeAccessIssue]
    recipe = parse(
        {"model": TINY, "task": "arithmetic", "rollout": {"engine": {"name": "local", "slots": "3"}}}
    )
    with pytest.raises(CoveyError, match=r"\[rollout.engine\] 'local': '<' not supported"):
        assemble.engine_of(recipe, policy)


def test_the_held_out_problems_are_the_same_for_every_seed() -> None:
    one, other = (parts(seed=seed, eval={"problems": 20}) for seed in (0, 1))
    assert [p.id for p in one.heldout] == [p.id for p in other.heldout]
    assert len(one.heldout) == 20
    assert not {p.id for p in one.heldout} & {p.id for p in one.train}


def test_live_objects_stand_in_for_the_recipe_s(own: Path) -> None:
    class Always:
        def __call__(self, episodes: Any) -> list[Score]:
            return [Score(1.0) for _ in episodes]

    recipe = parse({"model": TINY, "task": "arithmetic"})
    assert scores(prepare(recipe, reward=Always()), "anything") == [1.0]
