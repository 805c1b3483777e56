"""Whole runs with graders in their own processes: trained and verified, stopped, and hanging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import covey
from covey.audit.verify import verify
from covey.records import RunReader
from covey.types import CoveyError

OWN = """
import time

def digits(completions, **columns):
    texts = [completion[0]["content"] for completion in completions]
    return [sum(c.isdigit() for c in text) / max(len(text), 1) for text in texts]

def short(completions: list[str], answer):
    return [float(len(c) % 3) for c in completions]

def third(completions: list[str], prompts):
    if sum(map(len, completions)) % 3 == 0:
        raise ValueError("no such row")
    return [float(len(c) % 2) for c in completions]

def never(completions: list[str]):
    time.sleep(1e6)
"""

SMALL: dict[str, Any] = {
    "model": {"config": {"hidden_size": 16, "intermediate_size": 16}, "dtype": "float32"},
    "task": "arithmetic",
    "steps": 2,
    "rollout": {"problems_per_step": 6, "group_size": 2, "max_new_tokens": 6, "refills": 0},
    "eval": {"problems": 1, "samples": 1},
    "view": "quiet",
}
EVERYTHING = {"unscored": {"budget": 1, "run_budget": 1}}


@pytest.fixture
def graders(tmp_path: Path) -> Path:
    (tmp_path / "graders.py").write_text(OWN)
    return tmp_path / "graders.py"


def test_a_function_of_a_file_trains_and_is_verified(graders: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    covey.train(run=run, reward=f"{graders}:short", **SMALL)
    here = covey.train(run=tmp_path / "here", reward={"name": f"{graders}:short"}, **SMALL)
    rows = RunReader(run).metrics()
    assert rows == RunReader(here.run).metrics()
    assert rows[0]["unscored"] == 0
    report = verify(run, own_code=True)
    assert [str(check.differences[0]) for check in report.checks if check.differences] == []
    # 2 steps of 6 groups of 2
    assert [check.count for check in report.checks if check.name == "rewards"] == [24]


@pytest.mark.slow
def test_three_lines_with_trls_signature_are_learned(graders: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "model": {"config": {"hidden_size": 32, "intermediate_size": 32}, "dtype": "float32"},
        "rollout": {"problems_per_step": 8, "group_size": 8, "max_new_tokens": 6},
        "train": {"learning_rate": 3e-3, "warmup_steps": 2},
        "eval": {"problems": 16, "samples": 4},
    }
    reward = f"{graders}:digits"
    found = covey.train(run=tmp_path / "run", reward=reward, **SMALL | given | {"steps": 40}).summary
    assert found["before"]["sampled"]["high"] < 0.3
    assert found["difference"]["sampled"]["low"] > 0.2


def test_a_grader_that_raises_stops_the_run_with_its_traceback(graders: Path, tmp_path: Path) -> None:
    run, sentinels = tmp_path / "run", {"unscored": {"budget": 0.05}}
    with pytest.raises(CoveyError, match="completions have no score, more than the budget of 5%") as caught:
        covey.train(run=run, reward=f"{graders}:third", sentinels=sentinels, **SMALL | {"steps": 20})
    assert "first raised:" in str(caught.value)
    assert 'raise ValueError("no such row")' in str(caught.value)
    assert f'{graders}", line 13' in str(caught.value)


def test_a_grader_that_never_ends_costs_its_time_is_counted_and_shown(graders: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    reward = {"name": f"{graders}:never", "limits": {"seconds": 0.3}}
    covey.train(run=run, reward=reward, sentinels=EVERYTHING, **SMALL)
    assert [row["unscored"] for row in RunReader(run).metrics()] == [12, 12]
    [shown] = [row for row in RunReader(run).events() if row.get("sentinel") == "unscored"]
    assert shown["level"] == "warn"
    assert shown["evidence"].startswith("timeout 12: 12 × '")
    assert "raise the reward's limits" in shown["remedy"]
