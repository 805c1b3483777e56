"""`covey reward test` as it is typed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from covey.cli import main

Try: TypeAlias = Callable[..., tuple[int | str | None, str, str]]

RECIPE = """
[model]
name = "x/y"
[task]
name = "jsonl"
path = "data.jsonl"
[reward]
name = "combine"
parts = [{ name = "exact", tag = "answer" }, { name = "format" }]
"""

OWN = """
def strict(completions, answer, **columns):
    return [float(c[0]["content"] == a) for c, a in zip(completions, answer)]

def sloppy(completions, answer, **columns):
    return [float(a in c[0]["content"]) for c, a in zip(completions, answer)]
"""


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Try:
    """What `covey reward test …` exits with and prints, in a folder with own rewards, data and a recipe."""
    (tmp_path / "own.py").write_text(OWN)
    rows = [json.dumps({"prompt": f"{n} + 1?", "answer": str(n + 1)}) for n in range(40, 43)]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["covey", "reward", "test", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return (end.value.code, *capsys.readouterr())

    return run


def test_a_good_reward_is_ok(tried: Try) -> None:
    code, out, err = tried("own.py:strict")
    assert (code, err, out.splitlines()[-1]) == (0, "", "ok")
    assert "accepts   gold answers as: bare; full marks are 1\n" in out
    assert re.search(r"^time +p50 [\d.]+ ms, p95 [\d.]+ ms, max [\d.]+ ms a call$", out, re.MULTILINE)


def test_a_sloppy_one_fails_on_own_data(tried: Try) -> None:
    code, out, _ = tried("own.py:sloppy", "--data", "data.jsonl", "--problems", "2", "--json")
    found = json.loads(out)
    assert code == 1
    assert (found["ok"], found["problems"]) == (False, 2)
    assert "every number at once" in {fault["reply"] for fault in found["faults"]}


def test_a_recipes_reward_on_its_own_task(tried: Try) -> None:
    code, out, _ = tried("recipe.toml")
    assert code == 0
    assert "as: think and answer tags; full" in out
    code, out, _ = tried("recipe.toml", "--reward", "own.py:sloppy")
    assert code == 1
    assert "FAILED    a degenerate reply is rewarded: every number at once" in out
    assert re.search(r"^\d+ FAILED; --json shows them all$", out.splitlines()[-1])


def test_a_reward_that_only_shapes_says_so(tried: Try) -> None:
    code, out, _ = tried("overlong", "--reward.max-tokens", "9", "--reward.cache-tokens=3")
    assert code == 0
    assert "note      it shapes and doesn't grade" in out


def test_what_cannot_be_tried_is_said(tried: Try) -> None:
    code, _, err = tried("exact", "--reward.tga", "answer")
    assert (code, err) == (1, "covey: [reward] 'exact' has no parameter 'tga'; did you mean 'tag'?\n")
