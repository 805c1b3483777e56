"""Programs that try to pass without computing: none does, in any sandbox that works here."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey import sandbox
from covey.rewards.code import Code
from covey.sandbox import Failure, Limits
from covey.sandbox.backends import missing
from covey.types import Completion, Episode, Problem, StopReason, Turn

TESTS = """
def check(candidate):
    for x in range(1, 20):
        assert candidate(x) == x * x + 1
    assert candidate([3, 4]) == [10, 17]
    assert candidate("ab") == "abab!"
    assert not candidate(None)
    assert candidate(x=7) == 50
"""
HONEST = """
def f(x):
    if x is None:
        return 0
    if type(x) is list:
        return [f(y) for y in x]
    return x + x + "!" if type(x) is str else x * x + 1
"""
CHEATS = dict(
    part.split("\n", 1)
    for part in Path(__file__).with_name("cheats.txt").read_text("utf-8").split("=== ")[1:]
)


@pytest.fixture(params=["monty", "bubblewrap", "landlock"])
def backend(request: pytest.FixtureRequest) -> str:
    if reason := missing(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param


def test_the_honest_program_passes(backend: str) -> None:
    assert sandbox.check(HONEST, TESTS, "f", backend=backend) is None


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_passes(backend: str, name: str) -> None:
    failed = sandbox.check(CHEATS[name], TESTS, "f", limits=Limits(seconds=1), backend=backend)
    assert isinstance(failed, Failure)
    assert failed.kind != "tests"


def test_no_cheat_is_rewarded() -> None:
    """The way a run takes: backends in their order, each cheat a reply."""
    problem = Problem("f", (), columns={"entry_point": "f", "test": TESTS})
    replies = [f"```python\n{program}\n```" for program in (HONEST, *CHEATS.values())]
    episodes = [
        Episode(problem, i, (Turn((1,), Completion((2,), None, StopReason.END, 0, reply)),))
        for i, reply in enumerate(replies)
    ]
    assert [score.value for score in Code(seconds=1.0)(episodes)] == [1.0] + [0.0] * len(CHEATS)


def test_a_cheat_after_an_honest_program_finds_nothing_of_it(backend: str) -> None:
    """What one program leaves behind, the next doesn't see."""
    keep = (
        HONEST + "\nimport json, math\nkept = [f]\njson.kept = math.kept = f\n"
        if backend != "monty"
        else HONEST
    )
    assert sandbox.check(keep, TESTS, "f", backend=backend) is None
    use = "import json\ndef f(x):\n    return json.kept(x)\n"
    assert sandbox.check(use, TESTS, "f", backend=backend) is not None
    assert sandbox.check("def g(x): return f(x)\n", TESTS, "g", backend=backend) is not None


def test_tests_that_forgive_exceptions_dont_forgive_a_broken_process(backend: str) -> None:
    forgiving = "def check(candidate):\n    try:\n        candidate(1)\n    except Exception:\n        pass\n"
    raises = "def f(x):\n    raise ValueError(x)"
    opaque = "class Any:\n    pass\ndef f(x):\n    return Any()"
    assert sandbox.check(raises, forgiving, "f", backend=backend) is None
    assert sandbox.check(opaque, forgiving, "f", backend=backend) == Failure(
        "opaque", "a Any is no plain value"
    )
    if backend != "monty":
        failed = sandbox.check("import os\ndef f(x):\n    os._exit(0)", forgiving, "f", backend=backend)
        assert failed == Failure("exited")
