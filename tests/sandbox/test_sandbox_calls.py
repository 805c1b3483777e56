"""Calling, testing and running programs: the same answers in every sandbox that works here."""

from __future__ import annotations

import importlib.util
import math
import sys

import pytest

from covey import sandbox
from covey.sandbox import Failure, Limits, calls
from covey.sandbox.backends import missing
from covey.types import CoveyError

ADD = "def add(a, b=10):\n    return a + b\n"
ADD_TESTS = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(5) == 15\n"


@pytest.fixture(params=["monty", "bubblewrap", "landlock"])
def backend(request: pytest.FixtureRequest) -> str:
    if reason := missing(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param


@pytest.fixture(params=["bubblewrap", "landlock"])
def confined(request: pytest.FixtureRequest) -> str:
    if reason := missing(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param


# call


def test_values_come_back_in_order(backend: str) -> None:
    assert sandbox.call(ADD, "add", [[1, 2], ["a", "b"], [[1], [2]], [5]], backend=backend) == [
        3,
        "ab",
        [1, 2],
        15,
    ]


def test_every_plain_value_goes_in_and_out(backend: str) -> None:
    value = [None, True, 1, 2**70, 1.5, math.inf, "é\n", [1], (1, (2,)), {"a": {1: 2}}, {1, 2}, {(1, "a"): 0}]
    [back] = sandbox.call("def same(x):\n    return x", "same", [[value]], backend=backend)
    assert back == value
    assert list(map(type, back)) == list(map(type, value))


def test_an_exception_ends_one_call_and_no_other(backend: str) -> None:
    values = sandbox.call("def f(x):\n    return 6 // x", "f", [[2], [0], [3]], backend=backend)
    assert values[0] == 3
    assert values[1].exception == "ZeroDivisionError"
    assert values[1].kind == "raised"
    assert values[2] == 2


def test_a_program_keeps_its_globals_and_shares_them_with_nobody(backend: str) -> None:
    program = "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)\n"
    assert sandbox.call(program, "f", [[1], [2]], backend=backend) == [1, 2]
    assert sandbox.call(program, "f", [[1]], backend=backend) == [1]


def test_a_broken_program_fails_for_every_input(backend: str) -> None:
    values = sandbox.call("def f(:", "f", [[1], [2]], backend=backend)
    assert [value.exception for value in values] == ["SyntaxError"] * 2


def test_a_function_that_isnt_there(backend: str) -> None:
    [value] = sandbox.call("x = 1", "f", [[1]], backend=backend)
    assert value.kind == "raised"


def test_after_its_time_a_program_answers_no_more(backend: str) -> None:
    program = "def f(x):\n    while x: pass\n    return x"
    values = sandbox.call(program, "f", [[0], [1], [0]], limits=Limits(seconds=0.5), backend=backend)
    assert values == [0, Failure("timeout"), Failure("timeout")]


def test_time_counts_over_all_calls(backend: str) -> None:
    program = "import time\ndef f():\n    time.sleep(0.2)"
    values = sandbox.call(program, "f", [[]] * 10, limits=Limits(seconds=0.7), backend=backend)
    assert values[0] is None
    assert values[-1].kind == "timeout"


def test_too_long_a_value(backend: str) -> None:
    [value] = sandbox.call(
        "def f():\n    return 'x' * 5000", "f", [[]], limits=Limits(output_bytes=1000), backend=backend
    )
    assert value == Failure("output")


def test_arguments_longer_than_a_pipe(backend: str) -> None:
    text = "x" * 300_000
    assert sandbox.call("def f(x):\n    return len(x)", "f", [[text], ["a"]], backend=backend) == [300_000, 1]


def test_an_argument_must_be_plain() -> None:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    with pytest.raises(TypeError, match="no plain value"):
        sandbox.call(ADD, "add", [[object(), 1]], backend="bubblewrap")


def test_random_numbers_are_the_same_every_time(backend: str) -> None:
    program = "import random\ndef f():\n    return [random.random(), random.randint(1, 10**9)]"
    first = sandbox.call(program, "f", [[]], backend=backend)
    assert first == sandbox.call(program, "f", [[]], backend=backend)


# check


def test_what_passes_and_what_doesnt(backend: str) -> None:
    assert sandbox.check(ADD, ADD_TESTS, "add", backend=backend) is None
    wrong = sandbox.check("def add(a, b=10):\n    return a - b", ADD_TESTS, "add", backend=backend)
    assert wrong is not None
    assert wrong.kind == "wrong"


def test_a_call_by_keyword(backend: str) -> None:
    tests = "def check(candidate):\n    assert candidate(b=1, a='x' * 0 or 4) == 5\n"
    assert sandbox.check(ADD, tests, "add", backend=backend) is None


def test_tests_may_call_the_function_by_its_name(backend: str) -> None:
    stub = "def add(a, b):\n    '''stub'''\n"
    tests = f"{stub}def check(candidate):\n    assert candidate(1, 2) == add(2, 1) == 3\n"
    assert sandbox.check(ADD, tests, "add", backend=backend) is None


@pytest.mark.parametrize("error", ["ValueError", "KeyError", "ZeroDivisionError", "IndexError", "TypeError"])
def test_tests_may_expect_an_exception(backend: str, error: str) -> None:
    tests = f"""
def check(candidate):
    try:
        candidate(1)
    except {error}:
        return
    assert False
"""
    program = f"def f(x):\n    raise {error}('no')"
    assert sandbox.check(program, tests, "f", backend=backend) is None
    assert sandbox.check("def f(x):\n    raise OSError('no')", tests, "f", backend=backend) is not None
    assert sandbox.check("def f(x):\n    return x", tests, "f", backend=backend) is not None


def test_an_own_exception_is_its_nearest_built_in_one(confined: str) -> None:
    tests = """
def check(candidate):
    try:
        candidate(1)
    except ValueError as e:
        assert str(e) == 'no'
"""
    program = "class Own(ValueError): pass\ndef f(x):\n    raise Own('no')"
    assert sandbox.check(program, tests, "f", backend=confined) is None


@pytest.mark.parametrize("tests", ["def check(:", "import nothing_of_this_name", "x = 1 // 0"])
def test_tests_that_dont_load_are_told_apart(backend: str, tests: str) -> None:
    failed = sandbox.check(ADD, tests, "add", backend=backend)
    assert failed is not None
    assert failed.kind == "tests"


def test_the_program_never_has_the_tests(confined: str) -> None:
    """Neither in a frame nor anywhere on its heap; the search finds what is there."""
    program = """
import gc, sys
def add(a, b=10):
    frame, texts = sys._getframe(), []
    while frame:
        texts += [repr(frame.f_locals), repr(frame.f_globals)]
        frame = frame.f_back
    texts += [repr(o) for o in gc.get_objects() if type(o) in (dict, list, tuple)]
    return any("-".join(["marker", "xyz"]) in text for text in texts)
"""
    tests = "def check(candidate):\n    marker = 'marker-xyz'\n    assert candidate(1) is False\n"
    assert sandbox.check(program, tests, "add", backend=confined) is None
    assert sandbox.check(f"{program}\nhere = 'marker-xyz'", tests, "add", backend=confined) is not None


def test_tests_with_more_questions_than_a_pipe_holds(backend: str) -> None:
    tests = "def check(f):\n    for i in range(200):\n        assert f([i] * 900, []) == [i] * 900\n"
    assert sandbox.check(ADD, tests, "add", limits=Limits(seconds=60), backend=backend) is None


# who decides


def test_cpython_decides_what_monty_cant_run() -> None:
    if reason := missing("monty") or (missing("bubblewrap") and missing("landlock")):
        pytest.skip(str(reason))
    program = (
        "import string\nclass A(dict): pass\ndef add(a, b=10):\n    return len(string.digits) - 10 + a + b\n"
    )
    assert sandbox.check(program, ADD_TESTS, "add", backend="monty") is not None
    assert sandbox.check(program, ADD_TESTS, "add") is None
    assert sandbox.call(program, "add", [[1, 2]]) == [3]


def test_cpython_decides_on_lazy_iterators() -> None:
    """To monty ``map(str, x)`` is a list. A function that returns one is wrong all the same."""
    if reason := missing("monty") or (missing("bubblewrap") and missing("landlock")):
        pytest.skip(str(reason))
    tests = "def check(candidate):\n    assert candidate([1]) == ['1']\n"
    program = "def f(x):\n    return map(str, x)"
    assert sandbox.check(program, tests, "f", backend="monty") is None
    failed = sandbox.check(program, tests, "f")
    assert failed is not None
    assert failed.kind == "opaque"


def test_a_slow_program_has_cpythons_time(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := missing("monty") or (missing("bubblewrap") and missing("landlock")):
        pytest.skip(str(reason))
    monkeypatch.setattr(calls, "MONTY_SECONDS", 0.001)
    program = "def f(n):\n    return sum(i % 7 for i in range(n))"
    assert sandbox.call(program, "f", [[300_000]]) == [sum(i % 7 for i in range(300_000))]


# run


def test_a_program_reads_its_input_and_prints(confined: str) -> None:
    program = "import sys\nfor line in sys.stdin:\n    print(line.strip()[::-1])"
    outcome = sandbox.run(program, stdin="ab\ncdé\n", backend=confined)
    assert (outcome.status, outcome.stdout, outcome.stderr_tail) == ("ok", "ba\nédc\n", "")
    assert outcome.backend == confined


def test_a_program_is_main_and_has_the_standard_library(confined: str) -> None:
    program = """
import asyncio, collections, dataclasses, datetime, decimal, heapq, json, math, re, sqlite3, string, typing
@dataclasses.dataclass
class P:
    x: int
async def f():
    await asyncio.sleep(0)
    return P(3)
if __name__ == "__main__":
    print(dataclasses.asdict(P(2)), re.sub("a", "b", "aa"), math.pi, decimal.Decimal("0.1"))
"""
    outcome = sandbox.run(program, backend=confined)
    assert outcome.stderr_tail == ""
    assert outcome.stdout == "{'x': 2} bb 3.141592653589793 0.1\n"


@pytest.mark.parametrize(
    ("program", "status", "stdout", "stderr"),
    [
        ("print('a')\nraise SystemExit", "ok", "a\n", ""),
        ("print('a')\nraise SystemExit(3)", "failed", "a\n", ""),
        ("print('a', flush=True)\n1 / 0", "failed", "a\n", "ZeroDivisionError: division by zero\n"),
        ("print(", "failed", "", "SyntaxError: '(' was never closed\n"),
        ("import sys\nsys.exit('no')", "failed", "", "no\n"),
        ("print(input())", "failed", "", "EOFError: EOF when reading a line\n"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')", "ok", "\ufffd\ufffd", ""),
    ],
)
def test_how_a_program_ends(confined: str, program: str, status: str, stdout: str, stderr: str) -> None:
    outcome = sandbox.run(program, backend=confined)
    assert (outcome.status, outcome.stdout) == (status, stdout)
    assert outcome.stderr_tail.endswith(stderr)


def test_a_traceback_shows_the_program_alone(confined: str) -> None:
    outcome = sandbox.run("def f():\n    1 / 0\nf()", backend=confined)
    files = [line.split('"')[1] for line in outcome.stderr_tail.splitlines() if line.startswith("  File")]
    assert files == ["main.py", "main.py"]


def test_sets_have_the_same_order_every_time(confined: str) -> None:
    program = "print(list({'ab', 'cd', 'ef', 'gh', 'ij'}))"
    assert len({sandbox.run(program, backend=confined).stdout for _ in range(4)}) == 1


def test_a_sandbox_that_doesnt_start_runs_nothing(monkeypatch: pytest.MonkeyPatch, confined: str) -> None:
    monkeypatch.setattr("covey.sandbox.interpreter.DRIVER", "import sys; sys.exit('out of order')")
    with pytest.raises(CoveyError, match=r"didn't start \(exited\): out of order"):
        sandbox.run("print(1)", backend=confined)


@pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry") is not None, reason="opentelemetry is installed"
)
def test_monty_looks_for_no_telemetry_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sandbox.call("def f(x):\n    return x\n", "f", [[1]], backend="monty") == [1]
    looked: list[str] = []

    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            looked.append(name)

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert sandbox.call("def f(x):\n    return x\n", "f", [[1], [2]], backend="monty") == [1, 2]
    assert looked == []
