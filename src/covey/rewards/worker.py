"""A grader's own process: ``python -m covey.rewards.worker PARENT``, a line of JSON in and one out.

The first line says which reward to build; when that is there, the answer is ``{"ready": true}``, and every
further line is one call. What the grader prints goes to stderr. The process ends when its pipe
closes, and on Linux as soon as its parent is gone, whatever it is doing then.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from covey.protocols import Reward
from covey.rewards import wire
from covey.rewards.foreign import reward_of
from covey.rewards.functions import TRACE_CHARACTERS, Failure, attempt
from covey.rewards.named import named
from covey.types import CoveyError, Score

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> None:
    die_with(int(sys.argv[1]))
    # The pipes move away from where a grader's own print and input, or those of a library in C, would reach.
    orders, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    setup = json.loads(orders.readline())
    try:
        reward = build(setup["target"], setup["params"])
    except Exception:  # foreign code's failure becomes data
        tell(answers, {"refused": traceback.format_exc()[-TRACE_CHARACTERS:]})
        return
    limit_memory(setup["memory_mb"])
    tell(answers, {"ready": True})
    for line in orders:
        try:
            order = json.loads(line)
            reply = check(reward, order) if "check" in order else grade(setup["name"], reward, order)
        except MemoryError:  # while reading, or while saying what came of it
            reply = {"memory": True}
        tell(answers, reply)


def build(name: str, params: Mapping[str, Any]) -> Reward:
    """What the run has built, and checked, of the same name and parameters; ready for its first call."""
    made: Any = named("reward", name)
    if inspect.isclass(made):
        made = made(**params)
    elif inspect.isroutine(made):
        made = reward_of(made, **params)
    if callable(prepare := getattr(made, "prepare", None)):
        prepare()
    return made


def grade(name: str, reward: Reward, order: Mapping[str, Any]) -> dict[str, Any]:
    """One call's scores, or why it has none."""
    episodes = wire.episodes_from_json(order)
    result = attempt(name, lambda: list(reward(episodes)))
    if isinstance(result, Failure):
        return _all(len(episodes), result)
    if not all(isinstance(score, Score) for score in result):
        found = next(type(score).__name__ for score in result if not isinstance(score, Score))
        return _all(len(episodes), Failure(f"{name} returned {found}, not a Score", "type"))
    if len(result) != len(episodes):
        reason = f"{name} returned {len(result)} scores for {len(episodes)} completions"
        return _all(len(episodes), Failure(reason, "length"))
    return {"scores": [wire.score_to_json(score) for score in result]}


def check(reward: Reward, order: Mapping[str, Any]) -> dict[str, Any]:
    """Which of some problems the reward refuses first, and what it says."""
    try:
        for row in order["check"]:
            reward.check(wire.problem_from_json(row))  # type: ignore[attr-defined]
    except CoveyError as error:
        return {"refused": str(error)}
    except Exception:  # foreign code's failure becomes data
        return {"refused": traceback.format_exc(limit=-3)}
    return {"refused": None}


def die_with(parent: int) -> None:
    """Let the kernel end this process when its parent ends, even in the middle of a computation."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that was said
        sys.exit(1)


def limit_memory(megabytes: int) -> None:
    """Bound what may be allocated beyond what is there now, where the system can tell how much that is."""
    sizes = Path("/proc/self/statm")
    if sizes.exists():
        most = int(sizes.read_text().split()[0]) * resource.getpagesize() + (megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def tell(answers: IO[str], message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _all(count: int, failure: Failure) -> dict[str, Any]:
    scores: Sequence[Any] = [wire.score_to_json(failure.score)] * count
    return {"scores": scores}


if __name__ == "__main__":
    main()
