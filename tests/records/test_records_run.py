"""A run directory as a whole: it starts, stops, goes on and is read, whatever happens to its writer."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import covey.records
from covey.protocols import Recorder
from covey.records import RunReader, RunWriter
from covey.types import (
    Completion,
    CoveyError,
    Episode,
    Evaluation,
    Group,
    Problem,
    Sample,
    Score,
    StopReason,
    Turn,
    Update,
)

PROBLEM = Problem("12+34", ({"role": "user", "content": "What is 12+34?"},), "46", {"a": 12, "b": 34})


def group(values: tuple[float | None, ...] = (1.0, 0.0), version: int = 0) -> Group:
    def episode(sample: int) -> Episode:
        completion = Completion((5, 6), (-0.5, -0.25), StopReason.END, version, "46")
        return Episode(PROBLEM, sample, (Turn((1, 2, 3), completion),))

    return Group(PROBLEM, tuple(map(episode, range(len(values)))), tuple(map(Score, values)))


def update(reward: float) -> Update:
    trained = Sample(0, 1, -0.5, (0.25, 0.25), (-0.5, -0.25), (-0.5, -0.25))
    return Update(
        True, {"reward": reward, "grad_norm": 1.5}, (replace(trained, sample=0, advantage=0.5), trained)
    )


def record(run: RunWriter, steps: range) -> None:
    """What the loop and its surroundings write in these steps."""
    for step in steps:
        run.groups(step, [group(version=step)])
        run.timing(step, {"generate": 0.5})
        run.update(step, update(step / 8))
        run.link(step, {"weights": f"w{step}", "optimizer": f"o{step}"})
        run.evaluation(Evaluation(step + 1, (), ()))


def new_run(path: Path, steps: int) -> Path:
    with RunWriter.create(path) as run:
        run.manifest({"seed": 7})
        run.evaluation(Evaluation(0, (), ()))
        record(run, range(steps))
    return path


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of all that a run's result consists of: not the clock's part, nor the attempts'."""
    names = (
        "metrics.jsonl",
        "timings.jsonl",
        "chain.jsonl",
        "manifest.json",
        "rollouts/*",
        "evals/*",
        "summary.json",
    )
    return {str(p.relative_to(path)): p.read_bytes() for name in names for p in path.glob(name)}


def test_what_all_episodes_share_is_written_once(tmp_path: Path) -> None:
    text = (new_run(tmp_path, 1) / "rollouts/000000.jsonl").read_text()

    assert text.count("[1,2,3]") == 1  # the prompt's tokens
    assert text.count("What is 12+34?") == 1
    # Each of two episodes: once as sampled, once as learned (logp); not again as sampler_logp.
    assert text.count("[-0.5,-0.25]") == 4


def test_equal_runs_have_equal_bytes(tmp_path: Path) -> None:
    first, second = new_run(tmp_path / "a", 2), new_run(tmp_path / "b", 2)

    assert contents(first) == contents(second)
    assert len(contents(first)) == 9  # metrics, timings, chain, manifest, 2 rollouts, 3 evaluations


def test_the_writer_is_a_recorder(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path) as run:
        assert isinstance(run, Recorder)


# Starting, stopping, going on ---------------------------------------------------------------------


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    new_run(tmp_path / "run", 1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")

    for name in ("run", "other"):
        with pytest.raises(CoveyError, match=rf"{name} exists and is not empty: .*--run.* covey resume"):
            RunWriter.create(tmp_path / name)
    assert (tmp_path / "other/notes.txt").read_text() == "mine"


def test_a_start_that_failed_before_its_manifest_can_be_repeated(tmp_path: Path) -> None:
    def start_without_model() -> None:
        with RunWriter.create(tmp_path):
            raise CoveyError("there is no model named Smol")

    with pytest.raises(CoveyError, match="no model"):
        start_without_model()
    new_run(tmp_path, 1)

    exits = [attempt["exit"] for attempt in RunReader(tmp_path).attempts()]
    assert exits == ["CoveyError: there is no model named Smol", "finished"]


def test_a_place_that_cannot_be_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(CoveyError, match=r"can't create the run directory .*file/run"):
        RunWriter.create(tmp_path / "file/run")


def test_an_attempt_says_why_it_ended(tmp_path: Path) -> None:
    def interrupted() -> None:
        with RunWriter.reopen(tmp_path, 1):
            raise KeyboardInterrupt

    new_run(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    killed = RunWriter.reopen(tmp_path, 1)
    killed.close()  # what the operating system does for a killed process
    with RunWriter.reopen(tmp_path, 1) as run:
        run.finish("the error budget is spent")

    attempts = RunReader(tmp_path).attempts()
    assert [a["exit"] for a in attempts] == ["finished", "interrupted", None, "the error budget is spent"]
    assert [a["resumed_from"] for a in attempts] == [None, 1, 1, 1]
    assert [a["ended"] is None for a in attempts] == [False, False, True, False]


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_resumed_run_ends_with_the_bytes_of_one_that_was_never_stopped(tmp_path: Path, step: int) -> None:
    whole = new_run(tmp_path / "whole", 4)
    resumed = new_run(tmp_path / "resumed", 3)
    with (resumed / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":3,"tr')  # killed while it wrote step 3
    with RunWriter.reopen(resumed, step) as run:
        record(run, range(step, 4))

    assert contents(resumed) == contents(whole)


def test_going_on_drops_only_what_lies_beyond(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path) as run:
        run.manifest({})
        record(run, range(3))
        run.event("note")
        run.summary({"after": 1.0})
    RunWriter.reopen(tmp_path, 2).close()
    reader = RunReader(tmp_path)

    assert reader.steps() == [0, 1]
    assert [row["step"] for row in reader.metrics()] == [0, 1]
    assert [row["step"] for row in reader.timings()] == [0, 1]
    assert [row["step"] for row in reader.chain()] == [0, 1]
    assert [evaluation.step for evaluation in reader.evaluations()] == [1, 2]  # 2: after two steps
    assert [event["kind"] for event in reader.events()] == ["note"]
    assert reader.summary() is None


def test_going_on_from_a_step_that_is_not_recorded_changes_nothing(tmp_path: Path) -> None:
    new_run(tmp_path, 2)
    before = contents(tmp_path)

    with pytest.raises(CoveyError, match="can't go on after 3 steps: the record of step 2 is missing"):
        RunWriter.reopen(tmp_path, 3)
    assert contents(tmp_path) == before
    RunWriter.reopen(tmp_path, 2).close()  # and the lock was let go


@pytest.mark.parametrize("name", ["rollouts/000000.jsonl", "metrics.jsonl"])
def test_going_on_needs_the_whole_record_of_each_step(tmp_path: Path, name: str) -> None:
    (new_run(tmp_path, 2) / name).unlink()

    with pytest.raises(CoveyError, match="the record of step 0 is missing"):
        RunWriter.reopen(tmp_path, 2)


def test_recording_a_step_again_replaces_it(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path) as run:
        run.manifest({})
        run.groups(0, [group((1.0, 0.0))])
        run.update(0, update(0.5))
        run.groups(0, [group((None, 1.0))])

    reader = RunReader(tmp_path)
    assert reader.groups(0) == [group((None, 1.0))]
    assert reader.samples(0) == []


def test_a_second_writer_is_refused_and_a_killed_one_is_not_in_the_way(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from covey.records import RunWriter\n"
        "run = RunWriter.create(sys.argv[1])\n"
        "run.manifest({})\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    source = str(Path(covey.records.__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env={"PYTHONPATH": source}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(CoveyError, match="another process is writing to"):
            RunWriter.reopen(tmp_path, 0)
        process.send_signal(signal.SIGKILL)

    RunWriter.reopen(tmp_path, 0).close()
    assert [attempt["exit"] for attempt in RunReader(tmp_path).attempts()] == [None, None]


def test_the_manifest_is_written_once(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path) as run:
        run.manifest({"seed": 1})
        with pytest.raises(ValueError, match="once"):
            run.manifest({"seed": 2})


def test_a_metric_cannot_shadow_the_step(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path) as run, pytest.raises(ValueError, match="named step"):
        run.update(0, Update(True, {"step": 3.0}))


# Reading ------------------------------------------------------------------------------------------


def test_what_is_not_a_run_is_named_with_its_neighbour(tmp_path: Path) -> None:
    new_run(tmp_path / "demo", 1)

    with pytest.raises(CoveyError, match=r"there is no run .*demmo; did you mean .*demo\?"):
        RunReader(tmp_path / "demmo")
    with pytest.raises(CoveyError, match=r"is not a run: it has no manifest\.json"):
        RunReader(tmp_path)


def test_a_step_that_is_not_recorded_is_named(tmp_path: Path) -> None:
    new_run(tmp_path, 2)

    with pytest.raises(CoveyError, match=r"no record of step 7: steps 0 to 1 are recorded"):
        RunReader(tmp_path).groups(7)


def test_a_run_can_be_read_while_a_line_is_being_written(tmp_path: Path) -> None:
    path = new_run(tmp_path, 1) / "rollouts/000000.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    reader = RunReader(tmp_path)

    assert len(reader.samples(0)) == 1
    assert reader.samples(0) == list(update(0.0).samples[:1])
    assert reader.warnings == [f"{path}: the last line is cut short and was left out"]  # said once


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"stop":"end"', '"stop":"bored"'),
        ('"value":1.0', '"value":"high"'),
        ('"token_ids":', '"tokens":'),
        ('"turns":[{', '"turns":[7,{'),
    ],
)
def test_a_row_that_makes_no_sense_is_named_with_its_line(tmp_path: Path, old: str, new: str) -> None:
    path = new_run(tmp_path, 1) / "rollouts/000000.jsonl"
    path.write_text(path.read_text().replace(old, new, 1))

    # Line 1 is the file's header, 2 the problem, 3 the first episode.
    with pytest.raises(CoveyError, match=r"000000\.jsonl:3: not a rollout row"):
        RunReader(tmp_path).groups(0)


def test_a_sample_without_its_episode_is_named(tmp_path: Path) -> None:
    path = new_run(tmp_path, 1) / "rollouts/000000.jsonl"
    path.write_text(
        path.read_text().replace('"kind":"sample","step":0,"group":0', '"kind":"sample","group":9')
    )

    with pytest.raises(CoveyError, match=r"000000\.jsonl:5: not a rollout row .*group 9 has no episode 0"):
        RunReader(tmp_path).samples(0)
