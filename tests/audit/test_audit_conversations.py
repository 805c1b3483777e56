"""Runs with environments: verified from the record alone, replayed, resumed to the same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit_editing import edit, field, other
from covey.audit.replay import replay
from covey.audit.verify import verify
from covey.build import train
from covey.build.plan import plan
from covey.build.resume import resume
from covey.config import parse
from covey.records import RunReader
from small_run import Signals, contents, small

FLAKY = """
from covey.tasks.guess import Guess

class Flaky(Guess):
    def environment(self, problem, seed):
        game = super().environment(problem, seed)
        game.seed = seed
        step = game.step
        def sometimes(reply):
            if game.seed % 3 == 0:
                raise RuntimeError("the board is gone")
            return step(reply)
        game.step = sometimes
        return game
"""

TALKS: dict[str, Any] = {
    "task": {"name": "guess", "highest": 5, "games": 20},
    # a model of random numbers ends a reply once in a hundred letters
    "rollout": {
        "problems_per_step": 3,
        "group_size": 4,
        "max_new_tokens": 40,
        "max_turns": 3,
        "max_episode_tokens": 230,
    },
}


def recipe(**changes: Any) -> Any:
    values = small().model_dump(mode="json") | {"task": TALKS["task"]} | changes
    values["rollout"] = values["rollout"] | TALKS["rollout"]
    return parse({k: v for k, v in values.items() if v is not None})


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe(), tmp_path_factory.mktemp("talked") / "run").run


def longest(run: Path) -> dict[str, Any]:
    """The row of an episode with several replies."""
    rows = [json.loads(line) for line in (run / "rollouts/000001.jsonl").read_text().splitlines()]
    return max((r for r in rows if r.get("kind") == "episode"), key=lambda r: len(r["turns"]))


def differences(run: Path) -> dict[str, str]:
    return {c.name: str(c.differences[0]) for c in verify(run, own_code=True).checks if c.differences}


def test_a_run_of_conversations_is_verified(talked: Path) -> None:
    report = verify(talked, own_code=True)
    assert report.ok
    checks = {check.name: check for check in report.checks}
    assert checks["conversations"].count >= 4 * 3 * 4  # steps, groups and episodes
    assert {check.status for check in report.checks} == {"ok"}


def test_it_trained_on_replies_behind_what_the_environment_said(talked: Path) -> None:
    reader = RunReader(talked)
    trained = [
        (groups[sample.group].episodes[sample.sample], sample)
        for step in range(4)
        for groups in [reader.groups(step)]
        for sample in reader.samples(step)
    ]
    several = [(episode, sample) for episode, sample in trained if len(episode.turns) > 1]
    assert several
    for episode, sample in several:
        assert len(sample.logp) == len(episode.chosen_ids)
        assert sum(len(turn.context_ids) for turn in episode.turns[1:]) > 0
        # a tiny step keeps the policy near the sampler: the learner saw these tokens behind these contexts
        assert max(abs(a - b) for a, b in zip(sample.logp, sample.sampler_logp, strict=True)) < 1e-4
    assert reader.metrics()[0]["turns_mean"] > 1


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("turns.1.context_ids.3", other, "context ids"),
        ("ended", lambda _: "done", "ended"),
        ("turns.0.token_ids.0", other, "text"),
    ],
)
def test_what_was_changed_in_a_conversation_is_found(
    talked: Path, tmp_path: Path, name: str, change: Callable[[Any], Any], told: str
) -> None:
    run = Path(shutil.copytree(talked, tmp_path / "run"))
    row = longest(run)
    where = {key: row[key] for key in ("kind", "group", "sample")}
    edit(run, field(run, "rollouts/000001.jsonl", name, **where), change)
    found = differences(run)
    assert told in found["texts" if told == "text" else "conversations"]


def test_an_evaluation_with_more_replies_than_there_can_be_is_found(talked: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(talked, tmp_path / "run"))
    rows = [json.loads(line) for line in (run / "evals/000002.jsonl").read_text().splitlines()]
    row = next(r for r in rows if any(r.get("earlier", ())))
    sample = next(i for i, replies in enumerate(row["earlier"]) if replies)
    where = {key: row[key] for key in ("draw", "problem_id")}
    edit(
        run,
        field(run, "evals/000002.jsonl", f"earlier.{sample}", **where),
        lambda replies: [*replies, *replies[:1] * 3],
    )
    assert "evaluation scores" in differences(run)


def test_a_run_of_conversations_is_replayed_bit_for_bit(talked: Path) -> None:
    report = replay(talked, steps=1, start=3, own_code=True)
    assert report.ok
    assert [check.status for check in report.checks if check.name.startswith("step")] == ["ok"]


def test_stopped_and_resumed_it_is_the_same_run(talked: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        train(recipe(), tmp_path / "run", view=Signals(2))
    resume(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(talked)


def test_an_environment_that_fails_is_recorded_as_no_score_and_verified(tmp_path: Path) -> None:
    own = tmp_path / "flaky.py"
    own.write_text(FLAKY)
    flaky = {"name": f"{own}:Flaky", "highest": 5, "games": 20}
    sentinels = {"unscored": {"level": "off"}}
    run = train(recipe(task=flaky, sentinels=sentinels, steps=2), tmp_path / "run").run
    scores = [s for step in range(2) for g in RunReader(run).groups(step) for s in g.scores]
    failed = [s for s in scores if s.error == "the environment failed: RuntimeError: the board is gone"]
    assert failed
    assert all(s.value is None for s in failed)
    assert len(failed) < len(scores) / 2
    report = verify(run, own_code=True)
    assert report.ok
    without = {check.name: check for check in verify(run).checks}
    assert without["conversations"].skipped
    assert not any(check.differences for check in without.values())


def test_a_plan_shows_the_prompt_with_its_tools() -> None:
    task = {"name": "calculator", "low": 100, "high": 110, "examples": 1}
    planned = plan(recipe(task=task, model={"config": {"context": 1024}}))
    text = planned["prompts"][0]["text"]
    assert '"name": "calculator"' in text
    assert '<tool_call>{"name": "calculator", "arguments": {"expression": "31*47"}}</tool_call>' in text
    assert planned["batch"]["tokens_trained_at_most"] > 0
