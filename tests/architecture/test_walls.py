"""The source keeps to architecture.toml, and the check that says so can fail."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from walls import ROOT, Import, Limits, Room, Walls, breaches, imports, read, with_table

WALLS = read(ROOT / "architecture.toml")


def test_the_source_keeps_to_its_walls() -> None:
    found = breaches(ROOT / "src" / "covey", WALLS)
    assert not found, "\n".join(["", *found])


def test_architecture_md_prints_the_walls() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert page == with_table(page, WALLS), "ARCHITECTURE.md is behind architecture.toml: run `make walls`"


def test_every_package_a_room_imports_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", requirement, maxsplit=1)[0].lower() for requirement in requirements}

    core = names(project["dependencies"])
    extras = {name for listed in project["optional-dependencies"].values() for name in names(listed)}
    assert {package for room in WALLS.rooms.values() for package in room.third} <= core
    assert {package for room in WALLS.rooms.values() for package in room.lazy} <= core | extras
    assert not {package for room in WALLS.rooms.values() for package in room.elsewhere} & (core | extras)


# A small house to break: learn may use algo and torch, datasets in a function, verifiers in another Python.
HOUSE = Walls(
    limits=Limits(file_lines=20, function_lines=4, protocol_methods=3),
    rooms={
        "types": Room(),
        "algo": Room(third=["torch"]),
        "learn": Room(may=["types", "algo"], third=["torch"], lazy=["datasets"], elsewhere=["verifiers"]),
        "view": Room(may=["types"]),
        "covey": Room(may=["types"]),
    },
    planned=["view"],
)

Plant = Callable[[str], list[str]]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Writes the text as learn/batch.py into a house that stands, and returns what the check says."""

    def build(text: str) -> list[str]:
        package = tmp_path / "covey"
        for name in ("__init__.py", "types.py", "algo/loss.py", "learn/batch.py"):
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text("import json\n")
        (package / "learn" / "batch.py").write_text(text)
        return breaches(package, HOUSE)

    return build


@pytest.mark.parametrize(
    "text",
    [
        "import os, torch\nfrom covey.types import Problem\nfrom covey.learn.optimizer import step\n",
        "import covey.algo.loss\nfrom covey import types\n",
        "def load():\n    import datasets\n    return datasets\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from datasets import Dataset\n",
        "load = lambda: __import__('datasets')\n",
        "def load():\n    return importlib.import_module('verifiers.v1')\n",
    ],
)
def test_what_the_walls_allow_passes(plant: Plant, text: str) -> None:
    assert plant(text) == []


@pytest.mark.parametrize(
    ("text", "breach"),
    [
        ("import json\nimport covey.view.page\n", "2: learn may not import view (as covey.view.page)"),
        ("from covey.view import page\n", "1: learn may not import view (as covey.view)"),
        ("from covey import view\n", "1: learn may not import view (as covey.view)"),
        ("def f():\n    from covey.view import page\n", "2: learn may not import view (as covey.view)"),
        ("if TYPE_CHECKING:\n    import covey.view\n", "2: learn may not import view (as covey.view)"),
        (
            "import importlib\nimportlib.import_module('covey.view')\n",
            "2: learn may not import view (as covey.view)",
        ),
        ("import covey\n", "1: learn may not import covey (as covey)"),
        ("from covey import __version__\n", "1: learn may not import covey (as covey.__version__)"),
        ("from . import optimizer\n", "1: relative imports are refused: write from covey.… import …"),
        ("from ..algo import loss\n", "1: relative imports are refused: write from covey.… import …"),
        ("import rich.live\n", "1: learn may not import rich"),
        ("def f():\n    import rich\n", "2: learn may not import rich"),
        ("import datasets\n", "1: learn may import datasets only inside a function"),
        ("import verifiers\n", "1: learn may import verifiers only inside a function"),
        (
            "try:\n    import datasets\nexcept ImportError:\n    datasets = None\n",
            "2: learn may import datasets only inside",
        ),
        (
            "class A:\n    from datasets import Dataset\n",
            "2: learn may import datasets only inside a function",
        ),
        (
            "if TYPE_CHECKING:\n    pass\nelse:\n    import datasets\n",
            "4: learn may import datasets only inside a function",
        ),
        ("x = 1\n" * 21, "21: the file has 21 lines, of 20"),
        ("async def f():\n" + "    x = 1\n" * 4, "1: f has 5 lines, of 4"),
        ("class A:\n    def f(self):\n" + "        x = 1\n" * 4, "2: f has 5 lines, of 4"),
        (
            "class P(Protocol[T]):\n" + "".join(f"    def f{i}(self): ...\n" for i in range(4)),
            "1: P has 4 methods, of 3",
        ),
    ],
)
def test_a_planted_breach_is_found(plant: Plant, text: str, breach: str) -> None:
    [found] = plant(text)
    assert found.startswith(f"learn/batch.py:{breach}")


def test_rooms_and_table_must_agree(tmp_path: Path) -> None:
    for name in ("types.py", "view/page.py", "utils/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    rooms = {"types": Room(may=["tpyes"]), "view": Room(), "algo": Room(), "web": Room()}
    walls = Walls(HOUSE.limits, rooms, planned=["view", "web", "sandbox"])
    assert breaches(tmp_path, walls) == [
        "utils: no such room in architecture.toml",
        "algo: in architecture.toml, and neither on disk nor planned",
        "view: stands on disk, so it is no longer planned",
        "sandbox: planned without walls",
        "types: may import tpyes, which is no room",
    ]


def test_a_circle_of_walls_is_found(tmp_path: Path) -> None:
    rooms = {"algo": Room(may=["learn"]), "learn": Room(may=["types", "algo"]), "types": Room()}
    [found] = breaches(tmp_path, Walls(HOUSE.limits, rooms, planned=list(rooms)))
    assert found.startswith("the walls run in a circle: ")
    assert set(found.removeprefix("the walls run in a circle: ").split(" → ")) == {"algo", "learn"}


def test_a_misspelt_key_in_the_walls_is_refused(tmp_path: Path) -> None:
    (tmp_path / "architecture.toml").write_text(
        "[limits]\nfile_lines = 1\nfunction_lines = 1\nprotocol_methods = 1\n"
        "[rooms]\nalgo = { may = [], thrid = ['torch'] }\n"
    )
    with pytest.raises(TypeError, match="thrid"):
        read(tmp_path / "architecture.toml")


def test_imports_are_told_apart_by_when_they_run() -> None:
    tree = ast.parse(
        "import a, b.c\ndef f(x=__import__('d')):\n    async def g():\n        from e import h\n"
    )
    assert sorted(imports(tree), key=lambda found: found.module) == [
        Import("a", 1, deferred=False),
        Import("b.c", 1, deferred=False),
        Import("d", 2, deferred=False),
        Import("e", 4, deferred=True),
    ]
