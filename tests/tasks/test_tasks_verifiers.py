"""Problems from verifiers' tasksets: a stand-in for what is refused, the package itself where it is.

COVEY_VERIFIERS_PYTHON names an interpreter that has verifiers 0.4.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from covey.rewards import verifiers
from covey.tasks.verifiers import Verifiers
from covey.types import CoveyError

PYTHON = os.environ.get("COVEY_VERIFIERS_PYTHON", "")
TASKSETS = Path(__file__).parents[1] / "rewards" / "verifiers_sums.py"
real = pytest.mark.skipif(not PYTHON, reason="COVEY_VERIFIERS_PYTHON names no interpreter with verifiers")

STAND_IN = """
import json, sys
sys.stdin.readline()
print(json.dumps({{"ready": {{"endless": {endless}}}}}), flush=True)
rows = json.loads({rows!r})
for line in sys.stdin:
    wanted = json.loads(line)["rows"]
    print(json.dumps({{"rows": rows[:wanted], "end": len(rows) < wanted}}), flush=True)
    rows = rows[wanted:]
"""


def row(number: int) -> dict[str, Any]:
    message = {"role": "user", "content": f"question {number}"}
    return {"key": f"k{number}", "messages": [message], "data": {"answer": number}}


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(rows: list[Any], endless: bool = False) -> None:
        (tmp_path / "host.py").write_text(STAND_IN.format(rows=json.dumps(rows), endless=endless))
        monkeypatch.setattr(verifiers, "SCRIPT", tmp_path / "host.py")

    return write


def test_every_task_becomes_a_problem_page_by_page(listing) -> None:
    listing([row(n) for n in range(600)])  # pages of 256
    task = Verifiers("a:B", sys.executable, heldout=0.2)
    train, held = task.problems("train"), task.problems("heldout")
    assert sorted(int(p.answer or "") for p in (*train, *held)) == list(range(600))
    assert train[0].columns["vf_taskset"] == ["a:B", {}]
    assert not {p.id for p in train} & {p.id for p in held}


def test_an_endless_taskset_needs_a_limit(listing) -> None:
    listing([row(n) for n in range(600)], endless=True)
    with pytest.raises(CoveyError, match="say with limit"):
        Verifiers("a:B", sys.executable)
    task = Verifiers("a:B", sys.executable, limit=300)
    assert len(task.problems("train")) + len(task.problems("heldout")) == 300


def test_a_task_that_does_not_fit_is_named(listing) -> None:
    listing([row(0), {"unfit": "no prompt"}])
    with pytest.raises(CoveyError, match="a:B, task 1: it can't be used: no prompt"):
        Verifiers("a:B", sys.executable)


@pytest.mark.parametrize("limit", [0, 1, True, "2"])
def test_a_limit_is_a_number(limit: Any) -> None:
    with pytest.raises(CoveyError, match="limit must be"):
        Verifiers("a:B", sys.executable, limit=limit)


def test_a_taskset_without_a_class_is_refused() -> None:
    with pytest.raises(CoveyError, match=r"package\.module:Class"):
        Verifiers("gsm8k", sys.executable)


# the package itself


@real
def test_the_packages_tasks_with_settings_and_system_prompt() -> None:
    task = Verifiers(f"{TASKSETS}:Sums", PYTHON, settings={"highest": 4}, heldout=0.25)
    every = (*task.problems("train"), *task.problems("heldout"))
    assert len(every) == 16
    problem = next(p for p in every if p.messages[1]["content"] == "3+2=")
    assert problem.messages[0] == {"role": "system", "content": "Add."}
    assert problem.answer == "5"
    assert problem.columns["vf_data"]["idx"] == 14  # the rows count 3·4 + 2


@real
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Endless", "say with limit"),
        ("WithSetUp", r"setup\(\), which needs a verifiers runtime"),
        ("WithRuntime", "ran needs a verifiers runtime"),
        ("WithoutReward", "no @vf.reward"),
        ("WithSecret", "another key"),
        ("WithoutPrompt", "no prompt"),
        ("SumTask", "isn't a verifiers.v1 Taskset"),
        ("Nothing", "has no attribute 'Nothing'"),
    ],
)
def test_what_one_reply_cannot_settle_is_refused(name: str, said: str) -> None:
    with pytest.raises(CoveyError, match=said):
        Verifiers(f"{TASKSETS}:{name}", PYTHON)
