"""What is said of two sides' learning: times to a level, and curves over all seeds."""

from __future__ import annotations

from typing import Any

from time_to_reward import compared, judged


def run(seconds: float, right: dict[int, int]) -> dict[str, Any]:
    """Three steps of ``seconds`` each, and of 10 problems so many right after each number of steps."""
    return {
        "seconds": [seconds] * 3,
        "rewards": [0.1, 0.2, 0.3],
        "right": {str(step): [1.0] * n + [0.0] * (10 - n) for step, n in right.items()},
        "versions": {},
    }


def test_a_runs_time_is_that_of_its_steps_to_the_level() -> None:
    found = judged(run(2.0, {0: 7, 1: 5, 2: 6, 3: 8}), 0.6)  # 0.7 at the start didn't last
    assert found["steps_to_level"] == 2
    assert found["seconds_to_level"] == 4.0
    assert found["curve"][3]["mean"] == 0.8


def test_a_run_that_never_gets_there_leaves_no_ratio() -> None:
    ours = [judged(run(1.0, {0: 1, 3: 9}), 0.6)]
    theirs = [judged(run(9.0, {0: 1, 3: 5}), 0.6)]
    found = compared("best", ours, theirs, 0.6)
    assert found["ratio"] is None
    assert found["ratio_step"] == 9.0
    assert found["covey"] == [3.0]
    assert found["peer"] == [None]


def test_two_sides_are_compared_over_their_seeds() -> None:
    """Ours take 1, 2 and 3 s (1 s a step); theirs 20, 20 and 30 s: medians 2 and 20."""
    ends = ({0: 0, 1: 6, 2: 6, 3: 6}, {0: 0, 1: 0, 2: 6, 3: 6}, {0: 0, 1: 0, 2: 0, 3: 9})
    ours = [judged(run(1.0, right), 0.6) for right in ends]
    theirs = [judged(run(10.0, right), 0.6) for right in (ends[1], ends[1], ends[2])]
    found = compared("best", ours, theirs, 0.6)
    assert found["ratio"] == 10.0
    assert found["covey_curve"][3]["mean"] == 0.7  # 6 + 6 + 9 of 30
    assert found["overlap"][3] is True
    assert found["overlap"][1] is True  # 6 of 30 against 0 of 30: [0.095, 0.373] and [0, 0.114]
