"""Tools answer calls, tell what was wrong with one, and reach no further than they should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covey import sandbox
from covey.protocols import Environment, Interactive
from covey.rewards.finished import Finished
from covey.tasks.calculator import Calculator
from covey.tasks.guess import Guess
from covey.tasks.tooled import Tooled
from covey.tasks.tools import MOST_CALLS, ToolUse, calculator, python, search, toolbox
from covey.types import CoveyError, Ending, Episode, Problem

PROBLEM = Problem("p", ({"role": "user", "content": "q"},))


def reply(*calls: dict[str, Any], content: str = "") -> dict[str, Any]:
    return {"role": "assistant", "content": content} | ({"tool_calls": list(calls)} if calls else {})


def call(**arguments: Any) -> dict[str, Any]:
    return {"name": "calculator", "arguments": arguments}


def test_calls_are_answered_in_order_and_a_reply_without_one_ends() -> None:
    use = ToolUse(PROBLEM, {"calculator": calculator()})
    said = use.step(reply(call(expression="2*3"), call(expression="1/3")))
    assert said is not None
    assert [m["content"] for m in said] == ["6", "1/3"]
    assert all(m["role"] == "tool" and m["name"] == "calculator" for m in said)
    assert use.step(reply(content="6")) is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"error": "the call isn't readable JSON"}, "error: the call isn't readable JSON"),
        ({"name": "abacus", "arguments": {}}, "error: there is no such tool; there are: calculator"),
        (call(), "error: calculator takes expression"),
        (call(expression="1", precision=3), "error: calculator takes expression"),
        (call(expression=["1"]), "error: calculator takes texts"),
        (call(expression="1/0"), "error: division by zero"),
        (call(expression="__import__('os').system('true')"), "error: '_' is no part of arithmetic"),
    ],
)
def test_what_a_call_gets_wrong_is_told(wrong: dict[str, Any], told: str) -> None:
    said = ToolUse(PROBLEM, {"calculator": calculator()}).step(reply(wrong))
    assert said is not None
    assert said[0]["content"] == told


def test_a_flood_of_calls_is_cut_off() -> None:
    said = ToolUse(PROBLEM, {"calculator": calculator()}).step(reply(*[call(expression="1")] * 1000))
    assert said is not None
    assert [m["content"] for m in said] == ["1"] * MOST_CALLS + [
        "error: at most 4 calls in one reply are answered"
    ]


def test_python_answers_with_what_was_printed_and_can_do_no_harm(tmp_path: Path) -> None:
    run = python(seconds=2.0)
    assert run.answer({"code": "print(sum(range(10)))"}) == "45"
    assert run.answer({"code": "pass"}) == "(nothing was printed)"
    assert run.answer({"code": "1/0"}) == "error: failed: ZeroDivisionError: division by zero"
    assert run.answer({"code": "while True: pass"}).startswith("error: timeout")
    assert "error" in run.answer({"code": f"open({str(tmp_path / 'x')!r}, 'w').write('x')"})
    assert not list(tmp_path.iterdir())
    assert len(run.answer({"code": "print('x' * 9999)"})) == 2_002


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    (folder / "birds.md").write_text("A covey is a group of partridges.\n\nGeese fly in a skein.")
    (folder / "sub" / "fish.txt").write_text("Herring swim in a shoal.\n\nA group of fish may be a school.")
    (folder / "secret.bin").write_text("partridges")
    (tmp_path / "outside.txt").write_text("partridges outside")
    return folder


def test_search_ranks_by_the_words_that_are_rare(notes: Path) -> None:
    find = search(str(notes), results=2)
    found = find.answer({"query": "group of partridges"})
    assert found.split("\n\n")[0] == "[birds.md] A covey is a group of partridges."
    assert find.answer({"query": "Skein?"}) == "[birds.md] Geese fly in a skein."
    assert find.answer({"query": "zebra"}) == "nothing found"
    assert find.answer({"query": ""}) == "nothing found"
    assert "outside" not in find.answer({"query": "../outside.txt partridges outside"})


def test_search_refuses_what_leads_out_of_its_folder(notes: Path) -> None:
    (notes / "link.txt").symlink_to(notes.parent / "outside.txt")
    with pytest.raises(CoveyError, match="leads out of"):
        search(str(notes))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: search(str(folder / "none")), "there is no folder"),
        (lambda folder: search(str(folder)), "has no text"),
        (lambda _: toolbox(["calculatr"], "tools"), "no tool 'calculatr'. Did you mean 'calculator'"),
        (lambda _: toolbox([{"name": "python", "second": 3}], "tools"), "tool 'python': .*'second'"),
        (lambda _: toolbox([], "tools"), "no tools"),
        (lambda _: Calculator(examples=9), "0 to 3 examples"),
        (lambda _: Guess(highest=1), "highest must be a whole number from 2"),
    ],
)  # fmt: skip
def test_a_wrong_toolbox_or_task_is_refused(make: Callable[[Path], Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match=why):
        make(tmp_path)


def test_calculator_shows_calls_in_the_form_that_templates_render() -> None:
    task = Calculator(low=10, high=12, examples=1)
    problem = task.problems("train")[0]
    roles = [message["role"] for message in problem.messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert problem.messages[3]["content"] == problem.messages[4]["content"] == "1457"  # 31 * 47
    assert problem.messages[3]["tool_call_id"] == problem.messages[2]["tool_calls"][0]["id"]
    assert isinstance(task, Interactive)
    assert isinstance(task.environment(problem, 0), Environment)
    assert not {p.id for p in task.problems("train")} & {p.id for p in task.problems("heldout")}


def test_a_file_of_questions_with_tools(tmp_path: Path, notes: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("".join(f'{{"prompt": "q{n}", "answer": "{n}"}}\n' for n in range(20)))
    task = Tooled(str(path), ["calculator", {"name": "search", "folder": str(notes)}], heldout=0.2)
    assert [tool["function"]["name"] for tool in task.tools()] == ["calculator", "search"]
    environment = task.environment(task.problems("train")[0], 0)
    said = environment.step(reply({"name": "search", "arguments": {"query": "skein"}}))
    assert said is not None
    assert said[0]["content"] == "[birds.md] Geese fly in a skein."


def test_questions_are_found_in_any_shape_and_it_is_said_where_programs_run(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    rows = [{"question": f"q{n}", "answer": f"so\n#### {n}"} for n in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)))
    task = Tooled(str(path), ["python", "calculator"])
    problem = task.problems("train")[0]
    assert problem.messages[-1]["content"] == f"q{problem.answer}"
    assert task.notes[-1] == sandbox.describe(whole=True)
    assert sandbox.describe(whole=True) not in Tooled(str(path), ["calculator"]).notes


def test_the_game_tells_higher_and_lower_and_ends_when_it_is_won() -> None:
    task = Guess(highest=9)
    problem = next(p for p in task.problems("train") if p.answer == "5")
    game = task.environment(problem, 0)
    said = [game.step(reply(content=text)) for text in ("3", "7", "what?", "1 to 5", "it is 5")]
    told = [None if s is None else s[0]["content"] for s in said]
    assert told == ["higher", "lower", "number?", "number?", None]
    assert {p.answer for p in task.problems("train")} == set("123456789")
    assert list(Guess(highest=9).problems("heldout")) == list(task.problems("heldout"))


def test_finished_is_won_or_not_and_says_when_there_is_nothing_to_finish() -> None:
    endings = [Ending.DONE, Ending.TURNS, Ending.TOKENS, Ending.CUT, None]
    scores = Finished()([Episode(PROBLEM, i, (), ended) for i, ended in enumerate(endings)])
    assert [s.value for s in scores] == [1.0, 0.0, 0.0, 0.0, None]
    assert scores[-1].error == "the task has no environment: nothing says whether it finished"
