"""Real runs: clean ones alarm nobody, watching changes nothing, and a resumed run remembers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from covey.build import train
from covey.build.resume import resume
from covey.config import load
from covey.records import RunReader
from covey.sentinels import SENTINELS, Stopped
from covey.types import CoveyError, Episode, Score
from sentinels_run import (
    BATCH,
    ROOT,
    findings,
    recipe_values,
    recorded,
    run,
    stopped,
)

# clean runs


@pytest.mark.parametrize("seed", range(5))
def test_a_clean_run_alarms_nobody(tmp_path: Path, seed: int) -> None:
    recipe = load(ROOT / "recipes" / "tiny.toml", [f"--seed={seed}", "--eval.problems=1", "--eval.samples=1"])
    train(recipe, tmp_path / "run")
    assert findings(tmp_path / "run") == []


@pytest.mark.parametrize("seed", range(2))
def test_a_clean_run_in_bf16_alarms_nobody(tmp_path: Path, seed: int) -> None:
    run(tmp_path / "run", {**recipe_values("bfloat16", steps=4), "seed": seed})
    assert findings(tmp_path / "run") == []


def test_the_record_says_who_is_on_guard(tmp_path: Path) -> None:
    run(tmp_path / "run", recipe_values(steps=1, entropy={"level": "stop", "floor": 0.001}, ratio="off"))
    manifest = RunReader(tmp_path / "run").manifest()["sentinels"]
    assert list(manifest) == list(SENTINELS)
    assert manifest["entropy"] == {"level": "stop", "floor": 0.001, "rise": 3.0}
    assert manifest["ratio"] == {"level": "off"}
    (event,) = (e for e in RunReader(tmp_path / "run").events() if e["kind"] == "sentinels")
    assert event["levels"] == {name: entry["level"] for name, entry in manifest.items()}
    # they compare with what this recipe doesn't have: measurements in between, a second reward
    assert set(event["blind"]) == {"length_gain", "oracle"}


def test_watching_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path / "watched", recipe_values())
    run(tmp_path / "unwatched", {**recipe_values(), "sentinels": dict.fromkeys(SENTINELS, "off")})
    files = ["metrics.jsonl", "rollouts/000000.jsonl", "rollouts/000001.jsonl", "model/model.safetensors"]
    for name in files:
        assert (tmp_path / "watched" / name).read_bytes() == (tmp_path / "unwatched" / name).read_bytes(), (
            name
        )


def test_a_wrong_name_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match=r"no sentinel 'entropyy'; did you mean 'entropy'\?"):
        run(tmp_path / "run", recipe_values(entropyy="off"))
    assert not (tmp_path / "run").exists()


# going on


def test_a_resumed_run_remembers(tmp_path: Path) -> None:
    """Two steps of 16 completions, then a third: 48 in a row, seen by no attempt alone."""

    def constant(episodes: Sequence[Episode]) -> list[Score]:
        return [Score(0.0) for _ in episodes]

    values = recipe_values(steps=2, constant_reward={"level": "stop", "completions": 3 * BATCH})
    run(tmp_path / "run", values, constant)
    with pytest.raises(Stopped, match="the last 48 completions all have the reward 0"):
        resume(tmp_path / "run", steps=3, reward=constant)


def test_a_stopped_run_goes_on_when_its_sentinel_is_told_to_warn(tmp_path: Path) -> None:
    def constant(episodes: Sequence[Episode]) -> list[Score]:
        return [Score(0.0) for _ in episodes]

    values = recipe_values(steps=2, constant_reward={"level": "stop", "completions": BATCH})
    stopped(tmp_path / "run", values, constant)
    resume(tmp_path / "run", overrides=["--sentinels.constant_reward", "warn"], reward=constant)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()[1:]]
    levels = [e["levels"]["constant_reward"] for e in events if e["kind"] == "sentinels"]
    assert levels == ["stop", "warn"]
    assert recorded(tmp_path / "run") == ([0, 1], [0, 1])
