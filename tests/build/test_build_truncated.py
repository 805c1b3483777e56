"""A run whose algorithm masks truncated answers: trained, watched, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from covey.audit.verify import verify
from covey.build.run import train
from covey.config import parse
from covey.records import RunReader
from covey.sentinels.sentinel import Setting
from covey.sentinels.tokens import Tokens
from covey.types import StopReason, Update

VALUES: dict[str, Any] = {
    "steps": 2,
    "threads": 1,
    "model": {
        "config": {"family": "llama", "hidden_size": 16, "heads": 2, "kv_heads": 1, "intermediate_size": 16},
        "dtype": "float32",
    },
    "task": {"name": "arithmetic", "low": 0, "high": 9, "prompt": "{a}{op}{b}="},
    "reward": str(Path(__file__).parents[1] / "golden" / "digits.py") + ":digits",
    "algorithm": {"truncated": "masked"},
    "rollout": {"problems_per_step": 4, "group_size": 8, "max_new_tokens": 24},
    "train": {"learning_rate": 1e-2},
    "eval": {"problems": 2, "samples": 1},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("truncated") / "run"
    train(parse(VALUES), run)
    return run


def test_only_what_was_not_cut_off_is_trained(done: Path) -> None:
    reader, trained, cut = RunReader(done), 0, 0
    assert reader.manifest()["algorithm"]["truncated"] == "masked"
    for step in reader.steps():
        groups = reader.groups(step)
        due = {
            (i, e.sample)
            for i, group in enumerate(groups)
            if group.excluded is None
            for e in group.episodes
            if e.stop is not StopReason.LENGTH
        }
        assert {(s.group, s.sample) for s in reader.samples(step)} == due
        trained += len(due)
        cut += sum(e.stop is StopReason.LENGTH for group in groups for e in group.episodes)
    assert trained  # else nothing is shown here
    assert cut


def test_its_record_is_verified(done: Path) -> None:
    assert [c.name for c in verify(done, own_code=True).checks if c.differences] == []


def test_the_watch_knows_what_is_masked(done: Path) -> None:
    reader = RunReader(done)
    groups, samples = reader.groups(0), tuple(reader.samples(0))
    update = Update(True, {}, samples)
    assert Tokens(setting=Setting(truncated="masked")).learned(0, groups, update) is None
    unaware = Tokens(setting=Setting()).learned(0, groups, update)
    assert unaware is not None
    assert "was left out" in unaware.evidence
