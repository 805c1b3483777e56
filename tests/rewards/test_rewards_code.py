"""Unit tests as a reward: which program a reply holds, and what its tests make of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from covey.protocols import Reward
from covey.rewards import REWARDS, code
from covey.rewards.code import Code, code_blocks, program_of, same
from covey.sandbox import backends
from covey.sandbox.backends import missing
from covey.types import Completion, CoveyError, Episode, Problem, Score, StopReason, Turn

ADD = {"entry_point": "add", "test": "def check(f):\n    assert f(1, 2) == 3\n    assert f(2, 2) == 4\n"}
CASES = {
    "entry_point": "add",
    "cases": [{"input": [1, 2], "output": 3}, {"input": [[1], [2]], "output": [1, 2]}],
}
ECHO = {"cases": [{"input": "1 2\n", "output": "3"}, {"input": "4 5\n", "output": "9\n"}]}
RIGHT = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds."
WRONG = RIGHT.replace("a + b", "a - b")


@pytest.fixture(autouse=True)
def _some_sandbox() -> None:
    if missing("bubblewrap") and missing("landlock"):
        pytest.skip(f"bubblewrap: {missing('bubblewrap')}; landlock: {missing('landlock')}")


def scores(columns: dict[str, Any], *replies: str, **params: Any) -> list[Score]:
    problem = Problem("p1", ({"role": "user", "content": "?"},), columns=columns)
    turns = [Turn((1,), Completion((2,), None, StopReason.END, 0, reply)) for reply in replies]
    return Code(**params)([Episode(problem, i, (turn,)) for i, turn in enumerate(turns)])


def values(columns: dict[str, Any], *replies: str, **params: Any) -> list[float | None]:
    return [score.value for score in scores(columns, *replies, **params)]


def test_it_is_a_reward() -> None:
    assert isinstance(Code(), Reward)
    assert REWARDS["code"] == "covey.rewards.code:Code"


@pytest.mark.parametrize("columns", [ADD, CASES])
def test_right_is_1_and_anything_else_is_0(columns: dict[str, Any]) -> None:
    replies = [RIGHT, WRONG, "", "83", "```python\n```", "def add(a, b):\n    return a + b", "add = print"]
    assert values(columns, *replies) == [1, 0, 0, 0, 0, 1, 0]


def test_whole_programs_are_judged_by_what_they_print() -> None:
    right = "```python\na, b = map(int, input().split())\nprint(a + b, end='  \\n\\n')\n```"
    replies = [
        right,
        right.replace("a + b", "3"),
        "```\nprint(3)\nraise SystemExit(1)\n```",
        "print(3); print(3)",
    ]
    assert values(ECHO, *replies) == [1, 0, 0, 0]


def test_a_slow_program_is_0() -> None:
    replies = ["def add(a, b):\n    while True: pass", RIGHT]
    assert values(ADD, *replies, seconds=0.5) == [0, 1]


def test_a_reply_may_go_on_from_the_prefix() -> None:
    columns = {**ADD, "prefix": "BASE = 0\ndef add(a, b):\n    '''Adds.'''\n"}
    replies = [
        "    return a + b + BASE\n",
        "\n    return BASE + a + b",
        RIGHT.replace("a + b", "a + b + BASE"),
        "pass",
    ]
    assert values(columns, *replies) == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "needs the columns test and entry_point, or a list of cases.*there are: none"),
        ({"test": "def check(f): pass"}, "needs the columns"),
        ({"entry_point": "add"}, "needs the columns"),
        ({"entry_point": "add", "cases": []}, "needs the columns"),
        ({"entry_point": "add", "cases": [{"input": [1]}]}, "needs the columns"),
        ({"entry_point": "add", "cases": [{"input": 1, "output": 2}]}, "list of its arguments"),
        ({"cases": [{"input": [1], "output": 2}]}, "input and output are texts"),
        ({**ADD, "entry_point": "add()"}, "must be the name of a function"),
        ({**ADD, "entry_point": "class"}, "must be the name of a function"),
        ({**ADD, "prefix": 3}, "prefix must be Python text"),
        ({**ADD, "test": "def check("}, "the tests of problem p1 can't be run: .*SyntaxError"),
        ({**ADD, "test": "def chekc(f): pass"}, "can't be run: .*NameError"),
        ({**ADD, "test": "import nothing_of_this_name"}, "can't be run: .*ModuleNotFoundError"),
    ],
)
def test_a_problem_that_cant_be_graded_is_not_scored(columns: dict[str, Any], message: str) -> None:
    for score in scores(columns, RIGHT, WRONG):
        assert score.value is None
        assert score.error is not None
        assert re.search(message, score.error)
        assert "problem p1" in score.error


def test_without_a_sandbox_there_is_no_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "missing", lambda name: f"no {name}")
    with pytest.raises(CoveyError, match="no sandbox for untrusted code works here"):
        Code()
    assert values(ADD, RIGHT, WRONG, unsafe_local=True) == [1, 0]


def test_a_sandbox_that_fails_scores_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CoveyError("the sandbox didn't start")

    monkeypatch.setattr(code.sandbox, "check", fail)
    assert scores(ADD, RIGHT) == [Score(None, error="the sandbox didn't start")]


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("no code", []),
        ("```\na\n```", ["a"]),
        ("x\n```python\na\nb\n```\ny\n```py\nc\n```", ["a\nb", "c"]),
        ("```bash\nls\n```\n```Python3\na\n```\n```text\nout\n```", ["a"]),
        ("```python\na", ["a"]),
        ("  ```python\n    a\n  ```", ["    a"]),
        ("````python\na\n````", ["a"]),
        ("a ```b``` c", []),
        ("```python\r\na\r\n```\r\n", ["a"]),
        ("```" * 3, []),
    ],
)
def test_code_blocks(text: str, blocks: list[str]) -> None:
    assert [block for block in code_blocks(text) if block] == blocks


def test_the_block_that_defines_the_function_is_taken() -> None:
    blocks = ("def f(): return 1", "def f(): return 2", "print(f())")
    reply = "so:\n".join(f"```python\n{block}\n```\n" for block in blocks)
    assert program_of(reply, function="f") == "def f(): return 2"
    assert program_of(reply, function="g") == "print(f())"
    assert program_of(reply) == "print(f())"


def test_a_long_reply_takes_time_in_proportion() -> None:
    """Quadratic time would be minutes here."""
    for text in ("```\n" * 200_000, "`" * 500_000, " " * 500_000, "def " * 200_000, "\n" * 500_000):
        program_of(text, "x = 1\n", "f")


@pytest.mark.parametrize(
    ("value", "expected", "equal"),
    [
        *((1, 1, True), (1, 1.0, True), (0.1 + 0.2, 0.3, False), ("a", "a", True), (None, None, True)),
        *((True, True, True), (True, 1, False), (1, True, False), (False, 0, False), (None, 0, False)),
        *(((1, 2), [1, 2], True), ([1, 2], [1, 2], True), ([1], [1, 2], False), ([(1,)], [[1]], True)),
        *(([True], [1], False), ({1}, [1], False), ("ab", ["a", "b"], False), ([1], "[1]", False)),
        *(({"a": (1,)}, {"a": [1]}, True), ({"a": 1, "b": 2}, {"a": 1}, False), ({}, [], False)),
        (float("nan"), float("nan"), False),
    ],
)
def test_values_are_compared_as_python_does_but_for_bools_and_tuples(
    value: object, expected: object, equal: bool
) -> None:
    assert same(value, expected) is equal
