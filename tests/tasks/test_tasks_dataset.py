"""Problems from Hugging Face datasets: folders, files, and a hub that can't be reached."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from covey.protocols import Task
from covey.tasks.dataset import Dataset
from covey.tasks.jsonl import Jsonl
from covey.types import CoveyError, Problem

ROWS = [{"prompt": f"{i} + 1?", "answer": i + 1, "level": i % 3} for i in range(30)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a cache of its own, without progress bars."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return tmp_path


def sides(task: Task) -> dict[str, list[Problem]]:
    return {split: list(task.problems(split)) for split in ("train", "heldout")}


def message(path: str, **parameters: Any) -> str:
    with pytest.raises(CoveyError) as caught:
        Dataset(path, **parameters)
    return str(caught.value)


def saved(path: str, **splits: list[dict[str, Any]]) -> str:
    datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
    ).save_to_disk(path)
    return path


def test_every_local_form_gives_the_problems_of_the_json_lines_file(here: Path) -> None:
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    Path("rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    data = datasets.Dataset.from_list(ROWS)
    data.to_parquet("rows.parquet")
    data.to_csv("rows.csv")
    data.save_to_disk("folder")
    expected = sides(Jsonl("rows.jsonl"))
    for path in (
        "rows.jsonl",
        "rows.json",
        "rows.parquet",
        "rows.csv",
        "folder",
        saved("splits", train=ROWS),
    ):
        assert sides(Dataset(path)) == expected, path


def test_the_held_out_problems_may_be_a_split_of_their_own() -> None:
    task = Dataset(saved("d", learn=ROWS[:20], test=ROWS[20:]), split="learn", heldout_split="test")
    assert isinstance(task, Task)
    assert [len(problems) for problems in sides(task).values()] == [20, 10]
    assert message("d", split="learn", heldout_split="tset") == (
        "d: no split 'tset'. Did you mean 'test'? There are: learn, test"
    )
    assert message(saved("leak", train=ROWS, test=ROWS[:3]), heldout_split="test").startswith(
        "leak [test]: 3 prompts of leak [train] are held out here too, such as '0 + 1?'"
    )


def test_columns_are_what_json_can_hold() -> None:
    day = datetime.date(2024, 2, 29)
    rows = [
        {"prompt": "a", "answer": 0.5, "x": {"day": day, "n": [1.0, float("nan")]}},
        {"prompt": "b", "answer": float("nan"), "x": {"day": day, "n": []}},
    ]
    problems = {
        p.messages[0]["content"]: p for side in sides(Dataset(saved("d", train=rows))).values() for p in side
    }
    assert problems["a"].columns == {"answer": 0.5, "x": {"day": "2024-02-29", "n": [1.0, "nan"]}}
    assert (problems["a"].answer, problems["b"].answer) == ("0.5", None)


def test_a_bad_row_is_named_by_source_and_number() -> None:
    assert message(saved("d", train=ROWS), answer="anser") == (
        "d [train], row 1: no column 'anser'. Did you mean 'answer'? There are: prompt, answer, level"
    )
    assert message(saved("e", train=[*ROWS, {**ROWS[0], "prompt": ""}])) == (
        "e [train], row 31: column 'prompt': the prompt is empty"
    )
    assert message(saved("f", train=[{"prompt": "a", "answer": None}])).startswith(
        "f [train]: no row has an answer"
    )


def test_a_file_that_is_not_what_it_says_is_named(here: Path) -> None:
    Path("broken.parquet").write_bytes(b"PAR1 not really")
    assert message("broken.parquet").startswith("broken.parquet [train]: can't be read as a dataset: ")
    Path("rows.txt").write_text("hello", encoding="utf-8")
    assert message("rows.txt") == (
        "rows.txt: no reader for files of type '.txt'. There are: .parquet, .csv, .json, .jsonl"
    )
    Path("rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    assert message("rows.json", split="test") == (
        "rows.json: a file has the one split 'train'; hold out a share of it instead"
    )


@pytest.mark.parametrize("path", ["rows.parquet", "./rows", "data/deep/rows"])
def test_a_missing_local_path_is_not_looked_for_elsewhere(path: str) -> None:
    assert message(path) == f"{path}: no such file or folder"


def test_a_hub_that_cannot_be_reached_says_what_to_do() -> None:
    error = message("nobody/nothing", subset="main")
    assert error.startswith(
        "nobody/nothing [train]: no such folder here, and the Hugging Face hub gave nothing ("
    )
    assert error.endswith("Check the id and the network, or give the path of a local folder or file.")
    assert "\n" not in error


def test_a_hub_dataset_is_asked_for_by_id_subset_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(path: str, name: str | None, *, split: str) -> datasets.Dataset:
        asked.append((path, name, split))
        return datasets.Dataset.from_list(ROWS if split == "train" else [{"prompt": "new", "answer": 1}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = Dataset("some/sums", subset="main", heldout_split="test")
    assert asked == [("some/sums", "main", "train"), ("some/sums", "main", "test")]
    assert [len(problems) for problems in sides(task).values()] == [30, 1]


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert message("d") == "d: needs the package datasets; install it with: pip install 'covey[datasets]'"
