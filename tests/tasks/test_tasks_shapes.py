"""The shapes that rows have in the field, found without being told, and said when they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from covey.rewards.number import score
from covey.tasks.dataset import Dataset
from covey.tasks.jsonl import Jsonl
from covey.types import CoveyError, Problem

USER = {"role": "user", "content": "1+1?"}
GSM = "Tom has 2 and buys 40.\n2 + 40 = <<2+40=42>>42\n#### 42"
MATH = r"It is $\frac{1}{2}$, twice: \boxed{3}? No, $\boxed{\frac{1}{2}}$."


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def jsonl(*rows: dict[str, Any], **parameters: Any) -> Jsonl:
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return Jsonl("a.jsonl", **parameters)


def other(row: dict[str, Any]) -> dict[str, Any]:
    """The same row with another prompt: to hold something out takes two."""
    return json.loads(json.dumps(row).replace("1+1?", "2+2?"))


def one(task: Jsonl | Dataset) -> Problem:
    problems = [*task.problems("train"), *task.problems("heldout")]
    return next(problem for problem in problems if problem.messages[-1]["content"] == "1+1?")


@pytest.mark.parametrize(
    ("row", "answer", "note"),
    [
        ({"prompt": "1+1?", "answer": "2"}, "2", None),  # TRL, prompt-only, standard
        ({"prompt": [USER], "solution": "2"}, "2", "the answer in 'solution'"),  # TRL, conversational
        ({"prompt": "1+1?", "ground_truth": 2}, "2", "the answer in 'ground_truth'"),
        ({"prompt": "1+1?", "label": "2", "solution": "two"}, "two", "the answer in 'solution'"),
        ({"question": "1+1?", "answer": "2"}, "2", "the prompt in 'question'"),
        ({"problem": "1+1?", "solution": "2"}, "2", "the prompt in 'problem', answer in 'solution'"),
        ({"messages": [USER], "answer": "2"}, "2", "the prompt in 'messages'"),
        (
            {"messages": [USER, {"role": "assistant", "content": "2"}]},
            "2",
            "the prompt in 'messages', answer in 'messages'",
        ),
        ({"question": "1+1?", "answer": GSM}, "42", "the prompt in 'question', the answer after ####"),
        (
            {"problem": "1+1?", "solution": MATH, "level": "Level 1"},
            r"\frac{1}{2}",
            r"the prompt in 'problem', answer in 'solution', the answer in \boxed{}",
        ),
        (
            {
                "data_source": "openai/gsm8k",
                "prompt": [USER],
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": "42"},
                "extra_info": {"split": "train", "index": 0},
            },
            "42",
            "the answer in 'reward_model.ground_truth'",
        ),
    ],
)
def test_a_shape_is_found_and_said(row: dict[str, Any], answer: str, note: str | None) -> None:
    task = jsonl(row, other(row))
    problem = one(task)
    assert problem.messages == (USER,)
    assert problem.answer == answer
    prompt = next(name for name in ("prompt", "messages", "question", "problem") if name in row)
    assert problem.columns == {name: value for name, value in row.items() if name != prompt}
    if note is None:
        assert task.notes == ()
    else:
        [said] = task.notes
        assert said == f"a.jsonl, line 1: found {note}; set prompt, answer or final to read it otherwise"


def test_what_is_said_is_not_looked_for() -> None:
    row = {"prompt": "1+1?", "question": "1+1?", "answer": GSM, "solution": "42"}
    task = jsonl(row, other(row), prompt="question", answer="solution", final="whole")
    assert task.notes == ()
    assert one(task).answer == "42"
    whole = jsonl(row, other(row), final="whole")
    assert one(whole).answer == GSM
    with pytest.raises(CoveyError, match=r"no way to read an answer 'box'. Did you mean 'boxed'"):
        jsonl(row, final="box")


def test_a_verl_file_of_parquet_keeps_what_its_rewards_read() -> None:
    rows = [
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": content}],
            "reward_model": {"style": "rule", "ground_truth": str(n)},
            "extra_info": {"index": n},
        }
        for n, content in enumerate(["0?", "1+1?", "2?"])
    ]
    datasets.Dataset.from_list(rows).to_parquet("train.parquet")
    problem = one(Dataset("train.parquet"))
    assert problem.answer == "1"
    assert problem.columns["data_source"] == "openai/gsm8k"
    assert problem.columns["extra_info"] == {"index": 1}


def test_gsm8k_in_the_hubs_layout() -> None:
    """A folder with a data card that names configurations, as a copy of the hub's repository has it."""
    for split, count in (("train", 6), ("test", 3)):
        Path("gsm8k/main").mkdir(parents=True, exist_ok=True)
        rows = [{"question": f"{split} {n}?", "answer": f"So it is.\n#### 1,{n:03}"} for n in range(count)]
        datasets.Dataset.from_list(rows).to_parquet(f"gsm8k/main/{split}-00000-of-00001.parquet")
    card = "configs:\n- config_name: main\n  data_files:\n"
    card += "".join(f"  - split: {split}\n    path: main/{split}-*\n" for split in ("train", "test"))
    Path("gsm8k/README.md").write_text(f"---\n{card}---\n", encoding="utf-8")
    task = Dataset("gsm8k", subset="main", heldout_split="test")
    assert [p.answer for p in task.problems("heldout")] == ["1,000", "1,001", "1,002"]
    for problem in task.problems("train"):
        assert score(f"That makes {int(str(problem.answer).replace(',', ''))}.", problem.answer).value == 1.0


@pytest.mark.parametrize(
    ("answer", "bad", "message"),
    [
        (
            GSM,
            "no mark",
            "line 2: column 'answer': it must have #### followed by the answer, and is str 'no mark'",
        ),
        (GSM, "####  ", "line 2: column 'answer': it must have #### followed by the answer"),
    ],
)
def test_a_gold_answer_that_isn_t_there_is_named_by_its_line(answer: str, bad: str, message: str) -> None:
    with pytest.raises(CoveyError, match=message):
        jsonl({"question": "1+1?", "answer": answer}, {"question": "2+2?", "answer": bad})


@pytest.mark.parametrize("bad", [r"no box", r"\boxed{3", r"\boxed{}"])
def test_a_solution_without_its_box_is_named_by_its_line(bad: str) -> None:
    with pytest.raises(CoveyError, match=r"a.jsonl, line 2: column 'solution': it must have a .boxed"):
        jsonl({"problem": "1+1?", "solution": MATH}, {"problem": "2+2?", "solution": bad})


def test_messages_without_an_answer_at_their_end_are_named() -> None:
    full = {"messages": [USER, {"role": "assistant", "content": "2"}]}
    with pytest.raises(CoveyError, match="line 2: column 'messages': the last message isn't an assistant's"):
        jsonl(full, {"messages": [USER]})


def test_a_prompt_that_was_rendered_already_is_warned_of() -> None:
    row = {"prompt": "<|im_start|>user\n1+1?<|im_end|>", "answer": "2"}
    [note] = jsonl(row, {"prompt": "2+2?", "answer": "4"}).notes
    assert "looks as if a chat template had been applied already" in note
    assert jsonl({"prompt": "1+1?", "answer": "2"}, {"prompt": "2+2?", "answer": "4"}).notes == ()
