"""Problems from JSON Lines: what a row becomes, how rows are split, and what a bad file says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import covey.tasks
from covey.protocols import Task
from covey.tasks import TASKS
from covey.tasks.jsonl import Jsonl
from covey.tasks.rows import identity
from covey.types import CoveyError, Problem

Write: TypeAlias = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write rows, or lines given as bytes, to a file in the working directory; returns its name."""
    monkeypatch.chdir(tmp_path)

    def to(name: str, *rows: Any) -> str:
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        (tmp_path / name).write_bytes(b"\n".join(lines))
        return name

    return to


def row(prompt: object, answer: object = "1", **columns: object) -> dict[str, object]:
    return {"prompt": prompt, "answer": answer, **columns}


def both(task: Task) -> dict[str, Problem]:
    problems = [*task.problems("train"), *task.problems("heldout")]
    assert len({problem.id for problem in problems}) == len(problems)
    return {problem.messages[-1]["content"]: problem for problem in problems}


def message(path: str, **parameters: Any) -> str:
    with pytest.raises(CoveyError) as caught:
        Jsonl(path, **parameters)
    return str(caught.value)


def test_a_row_becomes_a_problem(write: Write) -> None:
    task = Jsonl(write("a.jsonl", row("1+1?", 2, level=3, tags=["x", None]), row("2+2?", "4")))
    assert isinstance(task, Task)
    problem = both(task)["1+1?"]
    assert problem.messages == ({"role": "user", "content": "1+1?"},)
    assert problem.answer == "2"
    assert problem.columns == {"answer": 2, "level": 3, "tags": ["x", None]}


def test_columns_may_have_other_names_and_prompts_be_messages(write: Write) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    rows = [{"q": chat, "gold": 1.5}, {"q": "ho", "gold": True}]
    problems = both(Jsonl(write("a.jsonl", *rows), prompt="q", answer="gold", system="Think."))
    assert problems["hi"].messages == tuple(chat)  # it has a system message of its own
    assert problems["ho"].messages == (
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "ho"},
    )
    assert (problems["hi"].answer, problems["ho"].answer) == ("1.5", "True")


def test_a_missing_answer_is_none_and_all_of_them_an_error(write: Write) -> None:
    problems = both(Jsonl(write("a.jsonl", row("a", None), row("b", " "), row("c", 0))))
    assert {content: problem.answer for content, problem in problems.items()} == {
        "a": None,
        "b": None,
        "c": "0",
    }
    assert message(write("b.jsonl", row("a", None), row("b", ""))) == (
        "b.jsonl: no row has an answer in column 'answer'; for a reward that needs none, set answer = \"\""
    )


@pytest.mark.parametrize("answer", [None, ""])
def test_data_may_have_no_gold_answers(write: Write, answer: str | None) -> None:
    problems = both(Jsonl(write("a.jsonl", {"prompt": "a"}, {"prompt": "b"}), answer=answer))
    assert [problem.answer for problem in problems.values()] == [None, None]


def test_rows_with_one_prompt_fall_on_one_side_under_different_ids(write: Write) -> None:
    rows = [row(f"problem {i % 20}", i) for i in range(60)]
    task = Jsonl(write("a.jsonl", *rows), heldout=0.5)
    sides = {split: {identity(p) for p in task.problems(split)} for split in ("train", "heldout")}
    assert not sides["train"] & sides["heldout"]
    ids = [problem.id for split in ("train", "heldout") for problem in task.problems(split)]
    assert len(set(ids)) == 60
    assert sorted(i.partition("#")[2] for i in ids) == [""] * 20 + ["2"] * 20 + ["3"] * 20


def test_a_prompt_keeps_its_id_and_side_when_the_file_or_the_system_message_changes(write: Write) -> None:
    rows = [row(f"problem {i}") for i in range(40)]
    first = Jsonl(write("a.jsonl", *rows), heldout=0.3)
    second = Jsonl(write("b.jsonl", *reversed(rows), row("one more")), heldout=0.3, system="Think.")
    assert {p.id for p in first.problems("heldout")} <= {p.id for p in second.problems("heldout")}
    assert {p.id for p in first.problems("train")} <= {p.id for p in second.problems("train")}


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip), min_size=2, unique=True))
def test_every_prompt_is_on_exactly_one_side(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    path.write_text("\n".join(json.dumps(row(prompt)) for prompt in prompts), encoding="utf-8")
    task = Jsonl(str(path))
    sides = [{p.messages[0]["content"] for p in task.problems(split)} for split in ("train", "heldout")]
    assert sides[0] | sides[1] == set(prompts)
    assert all(sides)
    assert not sides[0] & sides[1]


def test_the_held_out_rows_may_have_a_file_of_their_own(write: Write) -> None:
    train = write("train.jsonl", row("a"), row("b"))
    task = Jsonl(train, heldout_path=write("test.jsonl", row("c")))
    assert [p.messages[0]["content"] for p in task.problems("train")] == ["a", "b"]
    assert [p.messages[0]["content"] for p in task.problems("heldout")] == ["c"]
    assert message(train, heldout_path=write("leak.jsonl", row("c"), row("b"))) == (
        "leak.jsonl: 1 prompts of train.jsonl are held out here too, such as 'b'; remove them from one of "
        "the two, or hold out a share of train.jsonl instead"
    )
    assert message(train, heldout_path="test.jsonl", heldout=0.1) == (
        "train.jsonl: hold out a share or test.jsonl, not both"
    )


def test_blank_lines_and_a_byte_order_mark_do_no_harm(write: Write) -> None:
    first = b"\xef\xbb\xbf" + json.dumps(row("a")).encode()
    assert list(both(Jsonl(write("a.jsonl", first, b"", b"  \r", row("b"))))) in (["a", "b"], ["b", "a"])


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            {"Prompt": "b", "answer": 1},
            "no column 'prompt'. Did you mean 'Prompt'? There are: Prompt, answer",
        ),
        ({"prompt": "b", "solution": 1}, "no column 'answer'. There are: prompt, solution"),
        ({}, "no column 'prompt'. There are: none"),
        (
            b'{"prompt": "b",',
            "not JSON: Expecting property name enclosed in double quotes: line 1 column 16 (char 15)",
        ),
        (b'{"prompt": "b", "answer": NaN}', "not JSON: NaN is no JSON value"),
        (b"[1, 2]", "a row must be a JSON object, not list"),
        (b"[" * 100_000, "nested too deeply"),
        (row("b", x=json.loads("[" * 60 + "]" * 60)), "lists and objects nested more than 50 deep"),
        (row("b", x="\ud800"), "text that is no valid Unicode: str '\\ud800'"),
        (row("\udfff"), "text that is no valid Unicode: str '\\udfff'"),
        (row(" "), "column 'prompt': the prompt is empty"),
        (row(7), "column 'prompt': a prompt must be a string or a list of messages, not int 7"),
        (row([]), "column 'prompt': a prompt must be a string or a list of messages, not list []"),
        (
            row([{"role": "user"}]),
            "column 'prompt': a message must have a role and a content, both strings: dict {'role': 'user'}",
        ),
        (row(["hi"]), "column 'prompt': a message must have a role and a content, both strings: str 'hi'"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(write: Write, line: object, error: str) -> None:
    expected = f"a.jsonl, line 3: {error}"
    assert message(write("a.jsonl", row("a"), b"", line)) == expected


def test_a_line_that_is_no_utf8_is_named(write: Write) -> None:
    assert message(write("a.jsonl", b'{"prompt": "\xff"}')).startswith(
        "a.jsonl, line 1: not JSON: 'utf-8' codec"
    )


def test_a_missing_empty_or_single_row_file_says_so(write: Write) -> None:
    assert message(write("empty.jsonl", b"\n")) == "empty.jsonl: no rows, nothing to train or evaluate on"
    assert message("absent.jsonl") == "absent.jsonl: No such file or directory"
    assert message(write("one.jsonl", row("a"), row("a"))) == (
        "one.jsonl: to hold problems out takes at least two different ones, and there is 1"
    )


def test_the_table_names_tasks_and_costs_no_import() -> None:
    assert TASKS["jsonl"] == "covey.tasks.jsonl:Jsonl"
    assert Jsonl.__module__ == "covey.tasks.jsonl"
    script = (
        "import sys, importlib\nfrom covey.tasks import TASKS\n"
        "assert not {'datasets', 'torch', 'numpy'} & set(sys.modules)\n"
        "for target in TASKS.values():\n"
        "    module, _, name = target.partition(':')\n"
        "    assert callable(getattr(importlib.import_module(module), name).problems)\n"
        "assert 'datasets' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env={"PYTHONPATH": str(Path(covey.tasks.__file__).parents[2])},
    )
