"""Steps done again have the recorded hashes; where they don't, the first difference is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from audit_editing import edit, field, forge, left_out, other
from covey.audit.findings import Report
from covey.audit.replay import replay
from covey.audit.verify import verify
from covey.build.resume import resume
from covey.types import CoveyError

MANIFEST = "manifest.json"


def lines(report: Report) -> dict[str, str]:
    return {check.name: f"{check.status}: {check.detail}" for check in report.checks}


def elsewhere(run: Path) -> None:
    """Say that the run was made with another torch."""
    edit(run, field(run, MANIFEST, "environment.packages.torch"), lambda _: "1.13.1")


@pytest.mark.parametrize(("start", "steps"), [(0, 3), (1, 2)])
def test_a_run_replays_bit_for_bit(run: Path, start: int, steps: int) -> None:
    told: list[str] = []
    report = replay(run, steps=steps, start=start, own_code=True, told=lambda check: told.append(check.name))
    assert report.ok
    wanted = [f"step {step}" for step in range(start, start + steps)]
    assert told == [check.name for check in report.checks] == ["machine", "code", *wanted]
    # rollouts, weights, optimizer, metrics
    assert all(lines(report)[name] == "ok: 4 parts equal, bit for bit" for name in wanted)


def test_a_replay_leaves_the_run_as_it_is(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    replay(run, steps=1, own_code=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize("part", ["weights", "optimizer"])
def test_the_first_step_that_differs_ends_it_and_its_part_is_named(copy: Path, part: str) -> None:
    edit(copy, field(copy, "chain.jsonl", part, step=1), other)
    report = replay(copy, steps=3, own_code=True)
    assert not report.ok
    assert [check.name for check in report.checks] == ["machine", "code", "step 0", "step 1"]
    assert lines(report)["step 1"].startswith(f"FAIL: step 1: {part} is ")


def test_what_only_the_model_could_have_said_is_found_although_verify_cant(copy: Path) -> None:
    """A log-prob of a group that wasn't trained on, with all hashes written anew."""
    step, group = left_out(copy)
    name = "turns.0.sampler_logp.0"
    one = field(copy, f"rollouts/{step:06d}.jsonl", name, group=group, sample=1)
    edit(copy, one, lambda logp: logp - 0.5)
    forge(copy)
    for folder in ("checkpoints", "model"):
        shutil.rmtree(copy / folder)
    assert verify(copy, own_code=True).ok
    report = replay(copy, steps=3, own_code=True)
    assert f"step {step}, group {group}, sample 1, line" in lines(report)[f"step {step}"]


def test_elsewhere_figures_are_compared_and_it_is_said(copy: Path) -> None:
    elsewhere(copy)
    report = replay(copy, steps=3, own_code=True)
    assert report.ok
    said = lines(report)
    assert said["machine"].startswith("skipped: not the record's (environment.packages.torch: '1.13.1' → ")
    assert "no hashes are compared" in said["machine"]
    # trained, episodes, tokens, entropy, gradient norm, log-probs
    assert said["step 2"] == "ok: 6 figures within tolerance"


def test_elsewhere_too_a_record_that_another_recipe_made_is_found(copy: Path) -> None:
    elsewhere(copy)
    edit(copy, field(copy, MANIFEST, "recipe.train.learning_rate"), lambda rate: 10 * rate)
    report = replay(copy, steps=3, own_code=True)
    assert not report.ok
    assert lines(report)["step 0"].startswith("ok")  # the update before which nothing had moved


def test_steps_by_several_recipes_are_replayed_by_their_own(copy: Path) -> None:
    resume(copy, steps=4)
    resume(copy, steps=5, overrides=["--train.learning_rate", "1e-4"], changed=True)
    assert replay(copy, steps=1, start=3, own_code=True).ok
    assert replay(copy, steps=1, start=4, own_code=True).ok
    with pytest.raises(CoveyError, match="went on by another recipe from step 4"):
        replay(copy, steps=2, start=3, own_code=True)


@pytest.mark.parametrize(
    ("spoil", "start", "message"),
    [
        (lambda run: None, 3, r"has no record of step 3: it has steps 0 to 2"),
        (
            lambda run: shutil.rmtree(run / "checkpoints" / "000001"),
            1,
            r"from step 1: .* Its checkpoints: 2, 3",
        ),
        (lambda run: (run / "chain.jsonl").unlink(), 0, r"has no chain.jsonl"),
        (
            lambda run: edit(run, field(run, MANIFEST, "recipe.task.high"), lambda _: 4),
            0,
            r"its model or data are others. data.train.problems: ",
        ),
        (lambda run: (run / MANIFEST).unlink(), 0, r"is not a run"),
    ],
)
def test_what_cant_be_replayed_is_said_in_one_line(
    copy: Path, spoil: Callable[[Path], object], start: int, message: str
) -> None:
    spoil(copy)
    with pytest.raises(CoveyError, match=message) as caught:
        replay(copy, steps=1, start=start, own_code=True)
    assert "\n" not in str(caught.value)


def test_own_code_is_asked_for(run: Path) -> None:
    with pytest.raises(CoveyError, match="the author's own code; --own-code runs it"):
        replay(run, steps=1)


@pytest.mark.parametrize(
    ("key", "written", "said"),
    [
        (
            "reward",
            {"name": "combine", "parts": ["number", {"name": "mine.py:f"}]},
            "'mine.py:f' is the author's own code",
        ),
        ("reward", {"name": "judge", "model": "m", "url": "http://127.0.0.1:9"}, "'judge' asks a server"),
        (
            "task",
            {"name": "mixture", "parts": [{"task": "mine.py:T"}]},
            "'mine.py:T' is the author's own code",
        ),
        (
            "task",
            {"name": "verifiers", "taskset": "t", "python": "/bin/false"},
            "'verifiers' runs a taskset's code",
        ),
        ("algorithm.surrogate", {"name": "mine.py:loss"}, "'mine.py:loss' is the author's own code"),
    ],
)
def test_nothing_a_stranger_names_is_run_or_asked_unless_allowed(
    copy: Path, key: str, written: object, said: str
) -> None:
    edit(copy, field(copy, MANIFEST, "recipe.reward"), lambda _: {"name": "number"})
    edit(copy, field(copy, MANIFEST, f"recipe.{key}"), lambda _: written)
    with pytest.raises(CoveyError, match=f"{said}.*; --own-code runs it"):
        replay(copy, steps=1)
