"""Graders in processes of their own: what goes wrong there, and that it stays there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.build.components import build_reward
from covey.config import Component
from covey.rewards.functions import from_function
from covey.rewards.pooled import Pooled
from covey.types import Completion, CoveyError, Episode, Problem, Score, StopReason, Turn

OWN = """
import os, sys, time
from covey.types import Score

def graded(completions: list[str], answer):
    if any(c == "hang" for c in completions):
        while True: time.sleep(1)
    if any(c == "compute" for c in completions):
        9**9**9**9  # one instruction, which lets no other thread in
    if any(c == "raise" for c in completions):
        raise ValueError("no such luck")
    if any(c == "exit" for c in completions):
        os._exit(3)
    if any(c == "kill" for c in completions):
        os.kill(os.getpid(), 9)
    if any(c == "leave" for c in completions):
        sys.exit(0)
    if any(c == "memory" for c in completions):
        bytearray(1 << 40)
    if any(c == "short" for c in completions):
        return []
    if any(c == "text" for c in completions):
        return ["1"] * len(completions)
    if any(c == "nothing" for c in completions):
        return [None] * len(completions)
    if any(c == "nan" for c in completions):
        return [float("nan")] * len(completions)
    if any(c == "print" for c in completions):
        print('{"scores": []}' * 10, flush=True)
        os.write(1, b"noise" * 1000)
        input_is_empty = sys.stdin.read() == ""
        return [float(input_is_empty)] * len(completions)
    return [float(c == a) for c, a in zip(completions, answer)]

def alone(data_source, solution_str, ground_truth, extra_info=None):
    return graded([solution_str], [ground_truth])[0]

class Wrong:
    def __call__(self, episodes):
        return ["no Score"] * len(episodes)

def where(completions: list[str]):
    return [float(os.getpid())] * len(completions)
"""


def group(*texts: str, answer: str = "83") -> list[Episode]:
    problem = Problem("p", ({"role": "user", "content": "?"},), answer)
    return [
        Episode(problem, n, (Turn((1,), Completion((2,), None, StopReason.END, 0, text)),))
        for n, text in enumerate(texts)
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "graders.py"
    path.write_text(OWN)
    return path


def pooled(file: Path, name: str = "graded", **limits: Any) -> Pooled:
    limits = {"workers": 2, "seconds": 20.0, **limits}
    made = build_reward(Component.model_validate({"name": f"{file}:{name}", "limits": limits}))
    assert isinstance(made, Pooled)
    return made


@pytest.fixture
def reward(file: Path) -> Iterator[Pooled]:
    made = pooled(file)
    yield made
    made.close()


def told(scores: list[Score]) -> tuple[str, str]:
    """What all of them say alike: the kind and the error."""
    [(kind, error)] = {(s.fault.kind, s.error) for s in scores if s.fault and s.error and s.value is None}
    return kind, error


def processes(reward: Pooled) -> list[int]:
    crew = reward.pool._crew
    return [] if crew is None else [worker.process.pid for worker in crew.workers]


def running(pid: int) -> bool:
    """Whether a process is there and hasn't ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_grades_as_the_function_does_here(reward: Pooled) -> None:
    assert [s.value for s in reward(group("83", "82", "\udcff"))] == [1.0, 0.0, 0.0]
    assert reward([]) == []


@pytest.mark.parametrize(
    ("text", "kind", "error"),
    [
        ("raise", "raised", "raised ValueError: no such luck (graders.py:11)"),
        ("leave", "raised", "raised SystemExit: 0 (graders.py:17)"),
        ("exit", "died", "ended its process (exit code 3)"),
        ("kill", "died", "ended its process (SIGKILL)"),
        ("memory", "memory", "raised MemoryError:  (graders.py:19)"),
        ("short", "length", "returned 0 scores for 2 completions"),
        ("text", "type", "returned str, not a number"),
        ("nothing", "none", "returned None: not scored"),
        ("nan", "not finite", "returned nan"),
    ],
)
def test_a_failure_is_told_by_its_kind_and_the_next_call_is_graded(
    reward: Pooled, text: str, kind: str, error: str
) -> None:
    found, message = told(reward(group(text, "83")))
    assert found == kind
    assert message.endswith(f" {error}")
    assert [s.value for s in reward(group("83", "82"))] == [1.0, 0.0]


def test_a_traceback_comes_with_it(reward: Pooled) -> None:
    [score] = reward(group("raise"))
    assert score.fault is not None
    assert score.fault.trace is not None
    assert 'raise ValueError("no such luck")' in score.fault.trace
    assert 'graders.py", line 11' in score.fault.trace


@pytest.mark.parametrize("text", ["hang", "compute"])
def test_what_never_ends_is_ended(file: Path, text: str) -> None:
    reward = pooled(file, seconds=0.5)
    asked = [reward.submit(group(*texts)) for texts in [("83",), (text, "83"), ("82",), ("83", "82")]]
    good, hung, *rest = [scores() for scores in asked]
    assert told(hung)[0] == "timeout"
    assert told(hung)[1].endswith("graded took longer than 0.5 s")
    assert [s.value for s in (*good, *rest[0], *rest[1])] == [1.0, 0.0, 1.0, 0.0]
    reward.close()


def test_a_function_of_one_reply_loses_no_other_of_its_group(file: Path) -> None:
    reward = pooled(file, "alone", seconds=0.5)
    scores = reward(group("83", "hang", "82", "exit", "83"))
    assert [s.value for s in scores] == [1.0, None, 0.0, None, 1.0]
    assert [s.fault.kind for s in scores if s.fault] == ["timeout", "died"]
    reward.close()


def test_a_pattern_that_tries_for_ever_costs_its_reply_alone() -> None:
    values = {"name": "regex", "pattern": "(?P<answer>(a+)+)b", "limits": {"seconds": 0.5, "workers": 2}}
    reward = build_reward(Component.model_validate(values))
    assert isinstance(reward, Pooled)
    scores = reward(group("aab", "a" * 60, "aab", "ab", answer="aa"))
    reward.close()
    assert [s.value for s in scores] == [1.0, None, 1.0, 0.0]
    [fault] = [(s.fault.kind, s.error) for s in scores if s.fault]
    assert fault == ("timeout", "regex took longer than 0.5 s")


def test_printing_reaches_nothing(reward: Pooled) -> None:
    assert [s.value for s in reward(group("print"))] == [1.0]


def test_a_reward_that_returns_no_scores(file: Path) -> None:
    reward = pooled(file, "Wrong")
    assert told(reward(group("83", "82"))) == ("type", f"{file}:Wrong returned str, not a Score")
    reward.close()


def test_what_can_t_be_imported_there_is_told_with_its_traceback(file: Path) -> None:
    reward = pooled(file)
    file.write_text("import nowhere_to_be_found\n")
    [score] = reward(group("83"))
    assert score.fault is not None
    assert score.fault.kind == "start"
    assert "No module named 'nowhere_to_be_found'" in str(score.error)
    assert "Traceback" in str(score.fault.trace)
    file.write_text(OWN)  # mended, it is tried again
    assert [s.value for s in [*reward(group("83")), *reward(group("83"))]].count(1.0) >= 1
    reward.close()


def test_close_ends_every_process_whatever_it_does(file: Path) -> None:
    reward = pooled(file)
    reward.submit(group("compute"))
    asked = reward.submit(group("83"))
    assert asked()[0].value == 1.0
    found = processes(reward)
    assert len(found) == 2
    assert os.getpid() not in found
    reward.close()
    assert not any(map(running, found))
    reward.close()
    assert reward(group("83"))[0].value == 1.0  # it starts anew
    again = processes(reward)
    del reward, asked
    deadline = time.monotonic() + 20
    while any(map(running, again)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, again))  # a pool that nobody has any more has no processes


PARENT = """
import sys
from covey.rewards.functions import from_function
from covey.rewards.pool import Limits
from covey.rewards.pooled import Pooled
from covey.types import Completion, Episode, Problem, StopReason, Turn

def group(text):
    turn = Turn((1,), Completion((2,), None, StopReason.END, 0, text))
    return [Episode(Problem("p", (), "83"), 0, (turn,))]

reward = Pooled(from_function(group), "graded", sys.argv[1], {}, Limits(seconds=100, workers=2))
waiting = [reward.submit(group("compute")), reward.submit(group("hang"))]
while len(reward.pool._crew.workers) < 2 or not reward.pool._crew.orders.empty():
    pass
print(*[worker.process.pid for worker in reward.pool._crew.workers], flush=True)
waiting[0]()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_program(file: Path, number: int) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, f"{file}:graded"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with parent:
        assert parent.stdout is not None
        found = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(found) == 2
        parent.send_signal(number)
        parent.wait(20)
    deadline = time.monotonic() + 20
    while any(map(running, found)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, found))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"seconds": 0}, "limits.seconds must be a number above 0, not 0"),
        ({"seconds": "5"}, "limits.seconds must be a number above 0, not '5'"),
        ({"seconds": float("inf")}, "limits.seconds must be a number above 0, not inf"),
        ({"memory_mb": 0.5}, "limits.memory_mb must be a whole number above 0, not 0.5"),
        ({"workers": -1}, "limits.workers must be a whole number above 0, not -1"),
        ({"second": 1}, "limits has no key 'second'; did you mean 'seconds'?"),
    ],
)
def test_a_limit_that_is_none(file: Path, limits: dict[str, Any], message: str) -> None:
    with pytest.raises(CoveyError, match="^" + r"\[reward\] ") as caught:
        pooled(file, **limits)
    assert str(caught.value).endswith(message)


def test_what_runs_here_has_no_limits() -> None:
    with pytest.raises(CoveyError, match="'number' has no limits: it runs in no process of its own"):
        build_reward(Component.model_validate({"name": "number", "limits": {"seconds": 1}}))


def test_a_function_given_as_an_object_stays_here() -> None:
    scores = from_function(lambda completions: [float(os.getpid())] * len(completions))(group("a"))
    assert scores[0].value == os.getpid()
