"""A draw that remembers what it saw: killed and resumed it is the same run, and the record proves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.audit.replay import replay
from covey.audit.verify import verify
from covey.build import train
from covey.build.resume import resume
from covey.records import Checkpoints, RunReader
from covey.types import CoveyError
from small_run import Killed, Kills, contents, small

DRAWS = {
    "retire": {"name": "retire", "solved": 0.05, "return_after": 1},
    "curriculum": {"name": "curriculum", "floor": 0.2, "visits": 2},
    "climb": {"name": "climb", "levels": 3, "up": 0.05, "down": 0.01, "visits": 3},
}


@pytest.mark.parametrize("kind", DRAWS)
def test_killed_and_resumed_it_is_the_same_run_and_verifies(tmp_path: Path, kind: str) -> None:
    recipe = small(rollout={"draw": DRAWS[kind]})
    whole = train(recipe, tmp_path / "whole").run
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train(recipe, run, view=Kills(3))
    state = Checkpoints(RunReader(run).layout).state(2)["source"]
    assert state["orders" if kind == "climb" else "rates"]
    assert bool(state.get("retired")) == (kind == "retire")
    resume(run)

    assert contents(run) == contents(whole)
    report = verify(run, own_code=True)
    assert report.ok, [str(found) for check in report.checks for found in check.differences]
    assert replay(run, steps=1, start=3, own_code=True).ok


def test_another_draw_draws_other_problems(tmp_path: Path) -> None:
    drawn = []
    for kind in ("uniform", "curriculum"):
        run = train(small(steps=2, rollout={"draw": kind}), tmp_path / kind).run
        drawn.append([group.problem.id for step in range(2) for group in RunReader(run).groups(step)])
    assert drawn[0] != drawn[1]


def test_an_unknown_draw_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match="unknown draw 'retired'; did you mean 'retire'"):
        train(small(rollout={"draw": "retired"}), tmp_path / "run")
    with pytest.raises(CoveyError, match="'retire' has no parameter 'visit'; did you mean 'visits'"):
        train(small(rollout={"draw": {"name": "retire", "visit": 2}}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
