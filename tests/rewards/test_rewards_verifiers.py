"""verifiers in another Python: a stand-in for what goes wrong there, the package itself where it is.

COVEY_VERIFIERS_PYTHON names an interpreter that has verifiers 0.4.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.build.components import build_reward, build_task, reaches_out
from covey.config import Component
from covey.rewards import verifiers
from covey.rewards.elsewhere import Elsewhere, Lost
from covey.rewards.pooled import Pooled
from covey.rewards.verifiers import Verifiers, started
from covey.types import Completion, CoveyError, Episode, Problem, Score, StopReason, Turn

PYTHON = os.environ.get("COVEY_VERIFIERS_PYTHON", "")
TASKSET = f"{Path(__file__).with_name('verifiers_sums.py')}:Sums"
real = pytest.mark.skipif(not PYTHON, reason="COVEY_VERIFIERS_PYTHON names no interpreter with verifiers")

STAND_IN = """
import json, os, sys, time
names = [n for n in os.environ if n.startswith("PYTHON")]
print(json.dumps({"ready": {"PYTHON": names, "path": sys.path}}), flush=True)
sys.stdin.readline()
for line in sys.stdin:
    reply = json.loads(line)["reply"]
    if reply == "die":
        print("the last words", file=sys.stderr, flush=True)
        os._exit(3)
    if reply == "hang":
        time.sleep(1000)
    if reply == "garbage":
        print("no JSON", flush=True)
    elif reply == "raise":
        print(json.dumps({"raised": "ValueError: no luck", "trace": "Traceback"}), flush=True)
    else:
        print(json.dumps({"rewards": json.loads(reply), "metrics": {"length": 7}}), flush=True)
"""


def episode(problem: Problem, text: str, stop: StopReason = StopReason.END) -> Episode:
    return Episode(problem, 0, (Turn((1,), Completion((2,), None, stop, 0, text)),))


def problem_of(taskset: str) -> Problem:
    columns = {"vf_taskset": [taskset, {}], "vf_prompt": [], "vf_data": {}}
    return Problem("p", ({"role": "user", "content": "?"},), None, columns)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "host.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(verifiers, "SCRIPT", script)
    return script


def graded(reward: Verifiers, *replies: str) -> list[Score]:
    return reward([episode(problem_of("a:B"), reply) for reply in replies])


def test_the_sum_is_weighted_and_its_parts_are_named(stand_in: Path) -> None:
    reward = Verifiers("a:B", sys.executable)
    (score,) = graded(reward, '{"right": [1.0, 2.0], "long": [1.0, -0.5]}')
    assert score == Score(1.5, {"length": 7, "right": 1.0, "long": 1.0})  # 1·2 - 1·0.5


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ('{"right": [NaN, 1.0]}', "not finite"),
        ('{"right": [1e308, 1e308]}', "not finite"),
        ('{"right": null}', "none"),
        ("{}", "none"),
        ("raise", "raised"),
        ("die", "died"),
        ("garbage", "type"),
    ],
)
def test_what_goes_wrong_is_no_score_and_the_next_reply_has_one(
    reply: str, kind: str, stand_in: Path
) -> None:
    lost, good = graded(Verifiers("a:B", sys.executable), reply, '{"right": [0.5, 1.0]}')
    assert lost.value is None
    assert lost.fault is not None
    assert lost.fault.kind == kind
    assert good.value == 0.5


def test_the_last_words_of_a_dead_interpreter_are_told(stand_in: Path) -> None:
    (score,) = graded(Verifiers("a:B", sys.executable), "die")
    assert "the last words" in str(score.error)


def test_an_answer_has_its_time_and_the_interpreter_is_ended(stand_in: Path) -> None:
    host, _ = started(sys.executable, "a:B", {})
    with pytest.raises(Lost, match=r"longer than 0\.2 s") as lost:
        host.ask({"reply": "hang"}, 0.2)
    assert lost.value.kind == "timeout"
    assert host.process.returncode is not None


def test_neither_coveys_path_nor_the_scripts_reaches_it(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    host, about = started(sys.executable, "a:B", {})
    host.close()
    assert about["PYTHON"] == ["PYTHONHASHSEED"]
    assert not {"somewhere", str(stand_in.parent), ""} & set(about["path"])


def test_a_conversation_is_not_scored() -> None:
    one = episode(problem_of("a:B"), "x")
    (score,) = Verifiers("a:B", sys.executable)([Episode(one.problem, 0, one.turns * 2)])
    assert score == Score(None, error="verifiers scores one reply, and not a conversation")


def test_no_such_interpreter(tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match="no Python interpreter"):
        Elsewhere(str(tmp_path / "python"), tmp_path / "script.py")


def test_a_python_without_verifiers_is_told_at_once() -> None:
    with pytest.raises(
        CoveyError, match=r"a:B can't be used: ModuleNotFoundError: No module named 'verifiers'"
    ):
        started(sys.executable, "a:B", {})


def test_problems_of_another_taskset_are_refused() -> None:
    Verifiers("a:B", "python").check(problem_of("a:B"))
    for problem in (problem_of("a:C"), Problem("p", ({"role": "user", "content": "?"},))):
        with pytest.raises(CoveyError, match="same taskset"):
            Verifiers("a:B", "python").check(problem)


def test_verifying_a_strangers_record_runs_no_taskset() -> None:
    component = Component.model_validate({"name": "verifiers", "taskset": "a:B", "python": "python"})
    assert reaches_out(component) == "'verifiers' runs a taskset's code in another Python"


# the package itself


def part(**params: Any) -> Component:
    return Component.model_validate({"name": "verifiers", "taskset": TASKSET, "python": PYTHON, **params})


@pytest.fixture
def reward() -> Iterator[Pooled]:
    made = build_reward(part(limits={"seconds": 8, "workers": 1}))
    assert isinstance(made, Pooled)
    yield made
    made.close()


@real
def test_the_packages_own_scores_and_failures(reward: Pooled) -> None:
    problem = next(p for p in build_task(part()).problems("train") if p.messages[-1]["content"] == "1+2=")
    reward.check(problem)
    replies = ["3", "3 or so", "raise", "nan", "exit", "3", "hang", " 3 "]
    right, wrong, raised, nan, died, after, hung, blanks = reward([episode(problem, r) for r in replies])
    assert right == after == blanks == Score(2.0, {"right": 1.0, "long": 0.0, "truncated": 0.0})
    assert wrong == Score(-0.5, {"right": 0.0, "long": 1.0, "truncated": 0.0})
    kinds = [score.fault.kind for score in (raised, nan, died, hung) if score.fault]
    assert kinds == ["raised", "not finite", "died", "timeout"]
    assert "no luck" in str(raised.error)
    (cut,) = reward([episode(problem, "4", StopReason.LENGTH)])
    assert cut == Score(0.0, {"right": 0.0, "long": 0.0, "truncated": 1.0})
