"""A run with truncated sampling: its record is believed, and what it kept can't be edited unseen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit_editing import edit, field, forge
from covey.audit.replay import replay
from covey.audit.verify import verify
from covey.records import RunReader
from test_audit_verify import failed, places

STEP = "rollouts/000001.jsonl"
CUT = {"top_k": 12, "top_p": 0.9, "min_p": 0.02}


@pytest.fixture(scope="module")
def cut(trained: Callable[..., Path]) -> Path:
    return trained(rollout=CUT, train={"epochs": 1, "mini_batches": 2})


@pytest.fixture
def spoiled(cut: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cut, tmp_path / "run"))


def test_it_passes_and_does_so_again(cut: Path) -> None:
    report = verify(cut, own_code=True)
    assert report.ok, places(report)
    [check] = [check for check in report.checks if check.name == "kept ids"]
    tokens = sum(e.chosen for step in range(3) for g in RunReader(cut).groups(step) for e in g.episodes)
    assert check.count == tokens
    again = replay(cut, steps=2, start=1, own_code=True)
    assert again.ok, places(again)
    assert [check.status for check in again.checks if check.name.startswith("step")] == ["ok", "ok"]


def test_nobody_was_alarmed(cut: Path) -> None:
    assert [event for event in RunReader(cut).events() if event["kind"] == "sentinel"] == []
    for row in RunReader(cut).metrics():
        assert row["first_ratio_min"] == pytest.approx(1, abs=1e-6)
        assert row["first_ratio_max"] == pytest.approx(1, abs=1e-6)
        assert row["mismatch_abs"] < 0.05


def test_evaluations_draw_from_all(cut: Path) -> None:
    for path in (cut / "evals").iterdir():
        assert "kept" not in path.read_text()


def test_only_what_is_truncated_says_so(run: Path, cut: Path) -> None:
    assert "kept" not in (run / STEP).read_text()
    manifest = json.loads((run / "manifest.json").read_text())
    assert not {"top_k", "top_p", "min_p"} & manifest["recipe"]["rollout"].keys()
    assert "kept ids" not in {check.name for check in verify(run, own_code=True).checks}
    # ids in ascending order, each as its distance to the one before
    rows = [json.loads(text) for text in (cut / STEP).read_text().splitlines()]
    row = next(row for row in rows if row.get("kind") == "episode")
    [turn] = RunReader(cut).groups(1)[0].episodes[0].turns
    first, second, *_ = row["turns"][0]["kept"][0]
    assert turn.completion.kept is not None
    assert turn.completion.kept[0][:2] == (first, first + second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda kept: [[x + 1 for x in kept[0][:1]] + kept[0][1:], *kept[1:]], "token 0: it is"),
        (lambda kept: [[9999], *kept[1:]], "isn't among the 1 ids kept"),
        (lambda kept: [kept[0] + [1] * 20, *kept[1:]], "more than top_k = 12"),
        (lambda kept: [[*kept[0], 0], *kept[1:]], "ascending order"),
        (lambda kept: [[*ids[:-1], 10**6] for ids in kept], "isn't in the vocabulary"),
        (lambda kept: kept[1:], "number of kept sets"),
    ],
)
def test_an_edited_set_is_found_even_with_new_hashes(
    spoiled: Path, change: Callable[[Any], Any], message: str
) -> None:
    edit(spoiled, field(spoiled, STEP, "turns.0.kept", kind="episode"), change)
    assert "chain" in failed(verify(spoiled, own_code=True))
    forge(spoiled)
    found = failed(verify(spoiled, own_code=True))
    assert "chain" not in found
    assert any(message in str(difference) for difference in found["kept ids"].differences), found


def test_a_log_prob_that_the_set_can_t_give_is_found(spoiled: Path) -> None:
    edit(spoiled, field(spoiled, STEP, "turns.0.sampler_logp.0", kind="episode"), lambda _: -9.0)
    # min_p = 0.02 of at most 12: no token has less than 0.02 / 12, which is -6.4
    assert any("min_p" in place for place in places(verify(spoiled, own_code=True)))


def test_sets_left_out_are_found(spoiled: Path) -> None:
    path = spoiled / STEP
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    for row in rows:
        for turn in row.get("turns", ()):
            turn.pop("kept")
    path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    forge(spoiled)
    assert "whether it was truncated" in str(
        failed(verify(spoiled, own_code=True))["kept ids"].differences[0]
    )
