"""Every sentinel has its page, and the pages say what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from covey.config import parse
from covey.sentinels import SENTINELS, choose

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sentinels"
SECTIONS = ["Why it matters", "What it shows", "Likely causes", "What to do", "How to set it"]


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def test_there_is_a_page_for_each_sentinel_and_for_nothing_else() -> None:
    assert {path.stem for path in DOCS.glob("*.md")} == {*SENTINELS, "README"}


@pytest.mark.parametrize("name", SENTINELS)
def test_a_page_has_its_sections_its_level_and_its_source(name: str) -> None:
    text = page(name)
    assert text.startswith(f"# `{name}`\n\nLevel `{SENTINELS[name].level}` · ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    module = SENTINELS[name].__module__.rpartition(".")[2]
    assert f"../../src/covey/sentinels/{module}.py" in text


@pytest.mark.parametrize("name", SENTINELS)
def test_the_thresholds_on_a_page_are_those_of_the_code(name: str) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", page(name), re.MULTILINE))
    written = {key: None if value == "none" else float(value) for key, value in rows.items()}
    assert written == SENTINELS[name].defaults()


@pytest.mark.parametrize("name", SENTINELS)
def test_the_examples_on_a_page_are_good(name: str) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", page(name), re.DOTALL)
    examples = [block, *(f"[sentinels]\n{name} = {more}" for more in re.findall(r"# or (\{.*\})", block))]
    for example in examples:
        values = {"model": {"name": "x/y"}, "task": "arithmetic", **tomllib.loads(example)}
        chosen = choose({n: s.model_dump() for n, s in parse(values).sentinels.items()})
        assert chosen[name].level != SENTINELS[name].level


def test_the_readme_lists_them_in_order_with_their_levels() -> None:
    rows = re.findall(r"^\| \[`(\w+)`\]\((\w+)\.md\) \| (\w+) \|", page("README"), re.MULTILINE)
    assert rows == [(name, name, sentinel.level) for name, sentinel in SENTINELS.items()]


def test_links_lead_somewhere() -> None:
    for path in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
