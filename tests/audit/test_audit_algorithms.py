"""Records of algorithms that look at the rollout first, and of several optimizer steps on one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit_editing import edit, field, forge
from covey.audit.verify import verify

STEP = "rollouts/000001.jsonl"


def statuses(run: Path) -> dict[str, str]:
    return {check.name: check.status for check in verify(run, own_code=True).checks}


@pytest.mark.parametrize(
    ("changes", "columns"),
    [
        ({"algorithm": {"preset": "rloo"}}, {"old_logp", "ref_logp"}),
        ({"algorithm": {"preset": "80-20"}}, {"old_logp", "selected"}),
        ({"algorithm": {"preset": "clip-cov"}}, {"old_logp", "selected"}),
        ({"train": {"mini_batches": 2}}, {"old_logp"}),
        ({"train": {"mini_batches": 3}, "algorithm": {"preset": "grpo"}}, {"old_logp", "ref_logp"}),
    ],
)
def test_all_is_recomputed_from_what_was_kept(
    trained: Callable[..., Path], changes: dict[str, Any], columns: set[str]
) -> None:
    run = trained(**changes)
    rows = [json.loads(text) for text in (run / STEP).read_text().splitlines()[1:]]
    kept = [row.keys() & {"old_logp", "ref_logp", "selected"} for row in rows if row["kind"] == "sample"]
    assert kept
    assert all(row == columns for row in kept)
    assert set(statuses(run).values()) == {"ok"}


def test_later_epochs_are_said_not_to_be_checked(trained: Callable[..., Path]) -> None:
    run = trained(train={"epochs": 2, "mini_batches": 2})
    found = {check.name: check for check in verify(run, own_code=True).checks}
    assert {name for name, check in found.items() if check.status != "ok"} == {"losses", "token metrics"}
    assert found["losses"].skipped == "only the first epoch's log-probs are in the record"


@pytest.mark.parametrize("column", ["old_logp", "ref_logp"])
def test_a_forged_reference_shows_in_the_advantages(trained: Callable[..., Path], column: str) -> None:
    """Even where whoever edited it wrote all hashes anew."""
    run = trained(algorithm={"preset": "rloo"})
    edit(run, field(run, STEP, f"{column}.0", kind="sample"), lambda value: value - 0.5)
    forge(run)
    found = {check.name: check for check in verify(run, own_code=True).checks}
    assert found["advantages"].status == "FAIL"
    assert "step 1, group" in found["advantages"].detail
