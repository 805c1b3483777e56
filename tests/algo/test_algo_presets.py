"""Every preset is documented, and the page writes exactly what runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from covey.algo import PRESETS
from covey.algo.advantage import ADVANTAGES
from covey.algo.aggregation import AGGREGATIONS
from covey.algo.correction import CORRECTIONS
from covey.algo.entropy import SELECTIONS
from covey.algo.kl import KL
from covey.algo.ratio import RATIOS
from covey.algo.surrogate import SURROGATES

PAGE = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `([^`]+)`\n(.*?)(?=^#{1,2} |\Z)", PAGE, re.MULTILINE | re.DOTALL))
UNWRITTEN: dict[str, Any] = {
    "ratio": {"name": "token"},
    "kl": None,
    "kl_in": "loss",
    "selection": None,
    "correction": [],
}


def test_every_preset_has_a_section_and_no_section_is_left_over() -> None:
    assert set(SECTIONS) == set(PRESETS)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_section_holds_equation_source_difference_use_and_code(name: str) -> None:
    section = SECTIONS[name]
    for part in ("```text\n", "**Source.** ", "**Differs.** ", "**When.** ", "```toml\n"):
        assert section.count(part) == 1, part
    (code,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    assert UNWRITTEN | tomllib.loads(code) == PRESETS[name].describe()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_section_speaks_of_presets_and_choices_that_exist(name: str) -> None:
    known = {*PRESETS, *ADVANTAGES, *RATIOS, *SURROGATES, *AGGREGATIONS, *KL, *CORRECTIONS, *SELECTIONS}
    spoken = re.search(r"\*\*Differs\.\*\*(.*)", SECTIONS[name])
    assert spoken
    plain = [word for word in re.findall(r"`([a-z0-9_+.-]+)`", spoken[1]) if not word.startswith("epsilon")]
    assert set(plain) <= known | {"cap"}


@pytest.mark.parametrize(
    ("choice", "table"),
    [
        ("advantage", ADVANTAGES),
        ("ratio", RATIOS),
        ("surrogate", SURROGATES),
        ("aggregation", AGGREGATIONS),
        ("kl", KL),
        ("correction", CORRECTIONS),
        ("selection", SELECTIONS),
    ],
)
def test_the_page_lists_every_name_of_a_choice(choice: str, table: dict[str, object]) -> None:
    (names,) = re.findall(rf"^\| `{choice}` \|[^|]*\|([^|]*)\|", PAGE, re.MULTILINE)
    assert set(re.findall(r"`([^`]+)`", names)) == set(table)


def test_the_libraries_table_names_presets() -> None:
    rows = re.findall(r"^\| [^|]+ \| `([^`]+)` \| (?:group|the others)", PAGE, re.MULTILINE)
    assert len(rows) == 14
    assert set(rows) <= set(PRESETS)
