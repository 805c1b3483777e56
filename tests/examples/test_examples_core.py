"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import covey
from covey.records import RunReader

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_ten_lines_train_and_leave_a_record(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [sys.executable, str(EXAMPLES / "ten_lines.py"), str(run)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert len(RunReader(run).metrics()) == 3
    assert str(run) in done.stdout


def test_an_own_task_and_reward_are_named_by_their_file(tmp_path: Path) -> None:
    own = str(EXAMPLES / "own_task.py")
    for number in range(2):  # a second call in one process, too
        result = covey.train(
            model={"config": {"family": "gpt2", "hidden_size": 32, "heads": 2}, "dtype": "float32"},
            task={"name": f"{own}:Reverse", "length": 2},
            reward=f"{own}:overlap",
            run=tmp_path / str(number),
            steps=1,
            rollout={"problems_per_step": 2, "group_size": 4, "max_new_tokens": 4},
            eval={"problems": 2, "samples": 1},
            view="quiet",
        )
        groups = RunReader(result.run).groups(0)
        values = {s.value for g in groups for s in g.scores}
        assert values <= {0.0, 0.5, 1.0}  # of two places none, one or both
        # 9 words of two letters: those numbered 0 and 5 are held out
        assert not {g.problem.id for g in groups} & {"aa", "bc"}
