"""Two runs: what differs in what they were made of, and what may be said of their results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit_editing import edit, field
from covey.audit.compare import Outcome, compare
from covey.cli import audit as commands
from covey.evals.evaluate import difference
from covey.records import RunReader


@pytest.fixture(scope="session")
def second(trained: Callable[..., Path]) -> Path:
    return trained(seed=1, train={"learning_rate": 2e-2})


def test_a_run_is_like_its_twin(run: Path, trained: Callable[..., Path]) -> None:
    found = compare(run, trained())
    assert not any(found.differs.values())
    assert found.chain == "equal over all 3 steps"
    assert [outcome.verdict for outcome in found.outcomes] == [
        "no difference that can be told from chance"
    ] * 2
    assert [outcome.change["mean"] for outcome in found.outcomes] == [0.0, 0.0]


def test_what_differs_is_named_by_its_key(run: Path, second: Path) -> None:
    found = compare(run, second)
    recipe = {(one.key, one.one, one.other) for one in found.differs["recipe"]}
    assert recipe == {("recipe.seed", 0, 1), ("recipe.train.learning_rate", 1e-2, 2e-2)}
    assert not any(found.differs[name] for name in ("data", "model", "code", "packages", "hardware"))
    assert found.chain.startswith("first differ at step 0: ")


def test_packages_and_hardware_are_compared(run: Path, copy: Path) -> None:
    for name in ("environment.packages.numpy", "environment.cpu.model", "code.source_sha256"):
        edit(copy, field(copy, "manifest.json", name), lambda _: "another")
    found = compare(run, copy)
    assert [one.key for one in found.differs["packages"]] == ["environment.packages.numpy"]
    assert [one.key for one in found.differs["hardware"]] == ["environment.cpu.model"]
    assert [one.key for one in found.differs["code"]] == ["code.source_sha256"]


def test_the_interval_is_the_paired_one_of_the_last_evaluations(run: Path, second: Path) -> None:
    one, other = (RunReader(path).evaluations()[-1] for path in (run, second))
    for outcome in compare(run, second).outcomes:
        change = difference(getattr(one, outcome.draw), getattr(other, outcome.draw))
        assert outcome.change == {"mean": change.mean, "low": change.low, "high": change.high}
        assert outcome.problems == 2


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "better"),
        (-0.2, -0.01, "worse"),
        (-0.01, 0.2, "no difference that can be told from chance"),
        (0.0, 0.2, "no difference that can be told from chance"),
    ],
)
def test_better_is_said_only_when_the_interval_excludes_0(low: float, high: float, verdict: str) -> None:
    zero = {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert Outcome("greedy", 9, zero, zero, {"mean": 0.1, "low": low, "high": high}).verdict == verdict


def drop_problem(run: Path) -> None:
    """Take the first held-out problem out of the last evaluation."""
    path = run / "evals" / "000003.jsonl"
    rows = path.read_text().splitlines(keepends=True)
    gone = json.loads(rows[1])["problem_id"]
    path.write_text("".join(row for row in rows if json.loads(row).get("problem_id") != gone))


def test_only_problems_that_both_were_given_are_paired(run: Path, copy: Path) -> None:
    drop_problem(copy)
    found = compare(run, copy)
    assert [outcome.problems for outcome in found.outcomes] == [1, 1]


@pytest.mark.parametrize(
    ("spoil", "obstacle"),
    [
        (lambda run: shutil.rmtree(run / "evals"), "without an evaluation"),
        (
            lambda run: edit(run, field(run, "manifest.json", "recipe.reward.name"), lambda _: "number"),
            "the rewards differ",
        ),
        (lambda run: (drop_problem(run), drop_problem(run)), "different held-out problems"),
    ],
)
def test_what_cant_be_compared_is_said(
    run: Path, copy: Path, spoil: Callable[[Path], Any], obstacle: str
) -> None:
    spoil(copy)
    found = compare(run, copy)
    assert found.outcomes == []
    assert obstacle in str(found.obstacle)


def test_a_run_that_stopped_earlier_is_compared_as_far_as_it_went(run: Path, copy: Path) -> None:
    rows = (copy / "chain.jsonl").read_text().splitlines(keepends=True)
    (copy / "chain.jsonl").write_text("".join(rows[:-1]))
    (copy / "evals" / "000003.jsonl").unlink()
    found = compare(run, copy)
    assert found.chain == "equal over the first 2 steps"
    assert found.steps == (3, 2)


def test_the_commands_print_lines_or_json(
    run: Path, second: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.verify(run, own_code=True) == 0
    shown = capsys.readouterr().out
    assert "ok       rewards" in shown
    assert "free     timings.jsonl" in shown

    edit(copy, field(copy, "metrics.jsonl", "reward", step=1), lambda reward: reward + 1)
    assert commands.verify(copy, own_code=True, json=True) == 1
    verified = json.loads(capsys.readouterr().out)
    bad = [check for check in verified["checks"] if check["status"] == "FAIL"]
    assert {check["name"] for check in bad} == {"metrics", "chain"}
    assert bad[0]["differences"][0]["place"] == {"step": 1}

    assert commands.replay(run, steps=1, own_code=True) == 0
    assert "ok       step 0             4 parts equal, bit for bit" in capsys.readouterr().out
    assert commands.replay(run, steps=1, own_code=True, json=True) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True

    commands.compare(run, second)
    shown = capsys.readouterr().out
    assert "  recipe.seed: 0 → 1\n" in shown
    assert "[packages] the same\n" in shown
    commands.compare(run, second, json=True)
    compared = json.loads(capsys.readouterr().out)
    assert compared["differs"]["recipe"][0] == {"key": "recipe.seed", "one": 0, "other": 1}
    assert {result["draw"] for result in compared["results"]} == {"greedy", "sampled"}
