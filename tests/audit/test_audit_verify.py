"""A record passes as it was written, and fails at the place where one field of it was changed."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from audit_editing import Field, edit, field, fields, forge, left_out, other
from covey import kernels
from covey.audit.findings import Check, Report
from covey.audit.verify import verify
from covey.build.resume import resume
from covey.records import RunReader
from covey.types import CoveyError

STEP, LAST = "rollouts/000001.jsonl", "evals/000003.jsonl"


def failed(report: Report) -> dict[str, Check]:
    return {check.name: check for check in report.checks if check.differences}


def places(report: Report) -> list[str]:
    """Each difference, its place first."""
    return [str(difference) for check in report.checks for difference in check.differences]


def test_a_run_passes_and_every_check_had_something_to_compare(run: Path) -> None:
    report = verify(run, own_code=True)
    assert report.ok, places(report)
    assert report.notes == []
    assert {check.name: check.status for check in report.checks if check.status != "ok"} == {}
    assert all(check.count for check in report.checks)


def more(value: float) -> float:
    return value + 1


def a_little(value: float) -> float:
    return value + 1e-4


def opposite(stop: str) -> str:
    return "end" if stop == "length" else "length"


def at(group: int, sample: int | None = None) -> dict[str, Any]:
    """The first row of a group, or of one of its samples: the problem's, or the episode's."""
    return {"group": group} if sample is None else {"group": group, "sample": sample}


TRAINED = {"kind": "sample"}


@pytest.mark.parametrize(
    ("check", "file", "name", "row", "change", "place"),
    [
        ("rewards", STEP, "score.value", at(1, 2), more, "step 1, group 1, sample 2: reward"),
        ("exclusions", STEP, "excluded", at(1), lambda _: "unscored", "step 1, group 1: excluded"),
        ("texts", STEP, "turns.0.text", at(0, 1), other, "step 1, group 0, sample 1: text"),
        ("texts", STEP, "turns.0.token_ids.0", at(2, 0), more, "step 1, group 2, sample 0: text"),
        ("texts", STEP, "turns.0.token_ids.0", at(2, 0), lambda _: -1, "step 1, group 2, sample 0: token -1"),
        ("stops", STEP, "turns.0.stop", at(0, 0), opposite, "step 1, group 0, sample 0: stop"),
        ("policy versions", STEP, "turns.0.policy_version", at(0, 0), more, "step 1, group 0, sample 0"),
        ("sampler logp", STEP, "turns.0.sampler_logp.0", at(0, 0), lambda _: 0.5, "group 0, sample 0"),
        ("prompts", STEP, "prompt_ids.3", at(0), more, "step 1, group 0, sample 0: prompt ids"),
        ("problems", STEP, "answer", at(0), other, "step 1, group 0: answer"),
        ("problems", STEP, "columns.a", at(0), more, "step 1, group 0: columns"),
        ("record", STEP, "problem_id", at(0, 1), other, "step 1, group 0, sample 1, line"),
        ("advantages", STEP, "advantage", TRAINED, lambda v: v + 1e-9, "step 1, group"),
        ("token weights", STEP, "weight.1", TRAINED, lambda v: v * 1.001, "token 1: weight"),
        ("token metrics", STEP, "logp.0", TRAINED, lambda v: v - 1e-3, "step 1: mismatch"),
        ("trained episodes", STEP, "group", TRAINED, more, "it has to be trained and isn't"),
        ("losses", "metrics.jsonl", "loss", {"step": 2}, a_little, "step 2: loss"),
        ("metrics", "metrics.jsonl", "reward", {"step": 2}, a_little, "step 2: reward"),
        ("metrics", "metrics.jsonl", "learning_rate", {"step": 0}, more, "step 0: learning_rate"),
        ("metrics", "metrics.jsonl", "micro_batches", {"step": 0}, more, "step 0: micro_batches"),
        ("metrics", "metrics.jsonl", "trained", {"step": 2}, other, "step 2: trained"),
        ("chain", "metrics.jsonl", "grad_norm", {"step": 2}, other, "step 2: hash of its metrics"),
        ("chain", "metrics.jsonl", "entropy", {"step": 1}, other, "step 1: hash of its metrics"),
        ("chain", STEP, "turns.0.sampler_logp.1", at(1, 1), other, "step 1, group 1, sample 1, line"),
        ("chain", "chain.jsonl", "weights", {"step": 1}, other, "step 1: link's hash"),
        ("chain", "chain.jsonl", "hash", {"step": 2}, other, "step 2: link's hash"),
        (
            "evaluation scores",
            LAST,
            "scores.1.value",
            {"draw": "sampled"},
            more,
            "evaluation 3, draw sampled",
        ),
        ("evaluation scores", LAST, "texts.0", {"draw": "greedy"}, other, "evaluation 3, draw greedy"),
        ("evaluation scores", LAST, "stops.0", {"draw": "greedy"}, opposite, "evaluation 3, draw greedy"),
        ("evaluations", LAST, "problem_id", {"draw": "greedy"}, other, "evaluation 3, draw greedy"),
        ("summary", LAST, "token_ids.0.0", {"draw": "greedy"}, more, "summary.json: evaluations.3"),
        ("summary", "summary.json", "difference.greedy.low", {}, other, "difference.greedy.low"),
        ("chain", "manifest.json", "recipe.train.learning_rate", {}, other, "manifest.json"),
        ("algorithm", "manifest.json", "algorithm.surrogate.high", {}, other, "algorithm.surrogate.high"),
        ("sentinels", "manifest.json", "sentinels.weights.level", {}, other, "sentinels.weights.level"),
        ("data", "manifest.json", "data.train.sha256", {}, other, "manifest.json: data.train.sha256"),
        ("model", "manifest.json", "model.parameters", {}, more, "manifest.json: model.parameters"),
        ("checkpoints", "checkpoints/000002/state.json", "source.drawn", {}, more, "checkpoint 2: source"),
    ],
)
def test_a_changed_field_fails_its_own_check_at_its_place(
    copy: Path,
    check: str,
    file: str,
    name: str,
    row: dict[str, Any],
    change: Callable[[Any], Any],
    place: str,
) -> None:
    edit(copy, field(copy, file, name, **row), change)
    found = failed(verify(copy, own_code=True))
    assert check in found, found.keys()
    assert any(place in str(difference) for difference in found[check].differences), found[check].detail


def test_a_sample_numbered_twice_has_no_draw_of_its_own(copy: Path) -> None:
    step, group = left_out(copy)
    edit(copy, field(copy, f"rollouts/{step:06d}.jsonl", "sample", group=group, sample=1), more)
    found = failed(verify(copy, own_code=True))["draws"].detail
    assert found == f"step {step}, group {group}: samples is [0, 2, 2], recomputed [0, 1, 2]"


@pytest.mark.parametrize(
    ("check", "name", "row", "change"),
    [
        ("rewards", "score.value", at(1, 2), more),
        ("texts", "turns.0.text", at(0, 1), other),
        ("advantages", "advantage", TRAINED, a_little),
        ("token weights", "weight.1", TRAINED, a_little),
        ("token metrics", "logp.0", TRAINED, a_little),
        ("policy versions", "turns.0.policy_version", at(0, 0), more),
    ],
)
def test_who_writes_the_hashes_anew_is_found_by_arithmetic(
    copy: Path, check: str, name: str, row: dict[str, Any], change: Callable[[Any], Any]
) -> None:
    edit(copy, field(copy, STEP, name, **row), change)
    forge(copy)
    found = failed(verify(copy, own_code=True))
    assert check in found
    assert "step 1" in found[check].detail
    assert "chain" not in found


def test_forging_without_an_edit_changes_nothing(copy: Path) -> None:
    before = (copy / "chain.jsonl").read_bytes()
    forge(copy)
    assert (copy / "chain.jsonl").read_bytes() == before
    assert verify(copy, own_code=True).ok


@settings(max_examples=40)
@given(data=st.data())
def test_any_one_field_edited_is_found_and_named(
    run: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    one = data.draw(st.sampled_from(fields(run)))
    is_found(run, tmp_path_factory.mktemp("edited") / "run", one)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_single_field_edited_is_found_and_named(run: Path, tmp_path: Path) -> None:
    for number, one in enumerate(fields(run)):
        is_found(run, tmp_path / str(number), one)
        shutil.rmtree(tmp_path / str(number))


def is_found(run: Path, spoiled: Path, one: Field) -> None:
    """Edit a field in a copy of the run, and see verify fail there."""
    shutil.copytree(run, spoiled)
    row = edit(spoiled, one, other)
    said: list[str]
    try:
        report = verify(spoiled, own_code=True)
    except CoveyError as error:  # so broken that nothing else can be read
        said, wanted = [str(error)], [Path(one.file).name]
    else:
        assert not report.ok, f"{one} went unnoticed"
        file, line = Path(one.file), one.line + 1
        said, wanted = places(report), [*named(file, line, row), f"{file.name}:{line}:"]
    assert any(text in place for text in wanted for place in said), (one, said)


def named(file: Path, line: int, row: dict[str, Any]) -> list[str]:
    """How a place in the record may be named: a step at least, and by group and sample where it has them."""
    if file.suffix == ".json":
        return [file.name]
    if file.parent.name == "evals":
        number = int(file.stem)
        return [f"evaluation {number}", f"evaluations.{number}"]
    if "step" not in row:  # the first line of a file
        return [f"step {int(file.stem)}"] if file.parent.name == "rollouts" else [file.name, "step 0"]
    keys = [key for key in ("step", "group", "sample") if key in row]
    whole = ", ".join(f"{key} {row[key]}" for key in keys)
    return [whole, f"line {line}:"] if len(keys) > 1 else [whole]


def test_a_strangers_code_is_not_run(copy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = tmp_path / "evil.py"
    code.write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
        "def reward(completions): return [0.0] * len(completions)\n"
    )
    edit(copy, field(copy, "manifest.json", "recipe.reward.name"), lambda _: f"{code}:reward")
    report = verify(copy)
    assert not mark.exists()
    skipped = {check.name: check.skipped for check in report.checks if check.status == "skipped"}
    assert skipped.keys() == {"rewards", "evaluation scores"}
    assert "--own-code" in str(skipped["rewards"])
    verify(copy, own_code=True)
    assert mark.exists()


def test_weights_that_were_changed_after_training_are_found(copy: Path) -> None:
    path = copy / "model" / "model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name][0, 0] += 1e-3
    save_file(tensors, path, {"format": "pt"})
    found = failed(verify(copy, own_code=True))
    assert found.keys() == {"saved model"}
    assert found["saved model"].detail.startswith("step 2: hash of the weights")


def cut(path: Path, lines: int) -> None:
    """Drop the last lines of a file."""
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(kept[:-lines]))


def kill(run: Path, *, sampled: bool) -> None:
    """Leave what a kill within step 2 leaves, before or after its update was recorded."""
    (run / "summary.json").unlink()
    (run / "evals" / "000003.jsonl").unlink()
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints" / "000003")
    cut(run / "chain.jsonl", 1)
    if sampled:
        cut(run / "metrics.jsonl", 1)


def test_a_killed_run_passes_as_far_as_it_got(copy: Path) -> None:
    kill(copy, sampled=True)
    report = verify(copy, own_code=True)
    assert report.ok, places(report)
    assert "step 2 was begun and has no update yet" in report.notes


def test_a_run_killed_before_its_last_link_passes(copy: Path) -> None:
    kill(copy, sampled=False)
    report = verify(copy, own_code=True)
    assert report.ok, places(report)


def test_a_torn_last_line_is_tolerated_and_said(copy: Path) -> None:
    kill(copy, sampled=True)
    with (copy / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":2,"trai')
    report = verify(copy, own_code=True)
    assert report.ok, places(report)
    assert any("metrics.jsonl: the last line is cut short" in note for note in report.notes)


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda run: (run / STEP).unlink(), "step 1: 000001.jsonl is missing"),
        (lambda run: (run / "chain.jsonl").unlink(), "chain.jsonl: it has 0 links for 3 steps"),
        (lambda run: cut(run / "chain.jsonl", 1), "chain.jsonl: it has 2 links for 3 steps"),
        (lambda run: (run / "evals" / "000002.jsonl").unlink(), "evaluation 2: it was due and isn't there"),
        (lambda run: (run / STEP).write_bytes(b""), "step 1: number of groups is 0"),
        (lambda run: cut(run / STEP, 1), "step 1"),
        (lambda run: (run / "metrics.jsonl").write_text("{]\n{}\n"), "metrics.jsonl:1: broken JSON"),
    ],
)
def test_what_is_missing_or_broken_is_named(copy: Path, spoil: Callable[[Path], Any], place: str) -> None:
    spoil(copy)
    report = verify(copy, own_code=True)
    assert not report.ok
    assert any(place in text for text in places(report)), places(report)


def test_what_is_no_run_is_refused_in_one_line(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CoveyError, match=r"is not a run: it has no manifest.json"):
        verify(tmp_path / "empty")
    with pytest.raises(CoveyError, match=r"there is no run .*; did you mean .*run\?"):
        verify(tmp_path / "runn")
    edit(copy, field(copy, "manifest.json", "schema"), lambda _: 99)
    with pytest.raises(CoveyError, match=r"manifest.json has schema 99; .* Upgrade covey"):
        verify(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": {"preset": "gspo"}},
        {"algorithm": {"preset": "dapo"}},
        {"algorithm": {"preset": "olmo3"}},
        {"algorithm": {"preset": "rloo"}},  # KL in the reward
        {"train": {"mini_batches": 2}},
        {"train": {"memory_gb": 1e-9}},  # a sequence a micro-batch
        {"model": {"dtype": "bfloat16"}},
        {"rollout": {"refills": 0}, "seed": 3},
    ],
)
def test_other_recipes_pass(trained: Callable[..., Path], changes: dict[str, Any]) -> None:
    report = verify(trained(**changes), own_code=True)
    assert report.ok, places(report)
    assert all(check.status == "ok" for check in report.checks)


def test_an_interval_without_ends_passes(trained: Callable[..., Path]) -> None:
    """One held-out problem, and values beyond 0 and 1: nothing is known of the spread."""
    run = trained(
        eval={"problems": 1}, reward={"name": "overlong", "max_tokens": 3, "cache_tokens": 3}, steps=1
    )
    assert (RunReader(run).summary() or {})["before"]["greedy"]["low"] == "-inf"
    report = verify(run)
    assert report.ok, places(report)


def graders() -> set[str]:
    """Processes of this one's that grade."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = status.read_text().rpartition(")")[2].split()[1]
            command = (status.parent / "cmdline").read_bytes()
            if int(parent) == os.getpid() and b"covey.rewards.worker" in command:
                found.add(status.parent.name)
    return found


def test_no_grading_process_outlives_a_verification(trained: Callable[..., Path]) -> None:
    run, before = trained(), graders()
    gc.disable()  # which would end them, some time
    try:
        assert verify(run, own_code=True).ok
        assert graders() <= before
    finally:
        gc.enable()


def test_a_loss_against_a_reference_is_said_to_be_out_of_reach(trained: Callable[..., Path]) -> None:
    report = verify(trained(algorithm={"preset": "grpo"}), own_code=True)
    assert report.ok, places(report)
    skipped = {check.name: check.skipped for check in report.checks if check.status == "skipped"}
    assert skipped.keys() == {"losses"}
    assert "log-probs aren't in the record" in str(skipped["losses"])


def test_a_run_that_went_on_passes_by_the_recipe_of_each_step(copy: Path) -> None:
    resume(copy, steps=4)
    resume(copy, steps=5, overrides=["--train.learning_rate", "1e-3"], changed=True)
    report = verify(copy, own_code=True)
    assert report.ok, places(report)
    assert {check.name: check.count for check in report.checks}["evaluations"] == 5  # after 0, 2, 3, 4 and 5


def test_micro_batches_are_counted_as_the_run_that_computed_them_did(trained: Callable[..., Path]) -> None:
    """How much fits a micro-batch depends on whether the run had kernels, which the auditor may not have."""
    run = trained(train={"memory_gb": 0.00012}, eval={"problems": 1, "samples": 1, "every": 0})
    assert max(row["micro_batches"] for row in RunReader(run).metrics()) > 1
    report = verify(run, own_code=True)
    assert report.ok, [check.detail for check in report.checks if check.differences]
    kernels_then = RunReader(run).manifest()["environment"]["kernels"]
    assert (kernels_then is not None) is (kernels.why_not() is None)
