"""Holds a source tree against architecture.toml: who imports whom, and how large things are.

Run as a program it rewrites the wall table of ARCHITECTURE.md (`make walls`).
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FRONT = "covey"  # the room of the package's own __init__.py and __main__.py
BEGIN, END = "<!-- walls: written by `make walls` from architecture.toml -->", "<!-- end of walls -->"


@dataclass(frozen=True)
class Room:
    """What one room may import: rooms, packages at module level, packages only inside a function,
    and those that no dependency brings: the file runs in another Python."""

    may: Sequence[str] = ()
    third: Sequence[str] = ()
    lazy: Sequence[str] = ()
    elsewhere: Sequence[str] = ()


@dataclass(frozen=True)
class Limits:
    file_lines: int
    function_lines: int
    protocol_methods: int


@dataclass(frozen=True)
class Walls:
    limits: Limits
    rooms: Mapping[str, Room]
    planned: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Import:
    """One imported module, by its dotted name; ``deferred`` when importing the file doesn't run it."""

    module: str
    line: int
    deferred: bool


def read(path: Path) -> Walls:
    """The walls as architecture.toml states them; an unknown key is a TypeError."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    rooms = {name: Room(**room) for name, room in data.pop("rooms").items()}
    return Walls(limits=Limits(**data.pop("limits")), rooms=rooms, **data)


def breaches(package: Path, walls: Walls) -> list[str]:
    """Everything under ``package`` (the folder ``covey``) that the walls don't allow, one line each."""
    found = [*_table_breaches(package, walls)]
    for path in sorted(package.rglob("*.py")):
        where = path.relative_to(package)
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source, filename=str(path))
        found += [f"{where}:{line}: {what}" for line, what in _size_breaches(source, tree, walls.limits)]
        if (room := room_of(where)) in walls.rooms:
            found += [f"{where}:{line}: {what}" for line, what in _import_breaches(room, tree, walls)]
    return found


def room_of(where: Path) -> str:
    """The room a file belongs to, from its path inside the package."""
    return (
        FRONT
        if where.stem in ("__init__", "__main__") and len(where.parts) == 1
        else where.with_suffix("").parts[0]
    )


def _table_breaches(package: Path, walls: Walls) -> Iterator[str]:
    on_disk = {room_of(path.relative_to(package)) for path in package.rglob("*.py")}
    for room in sorted(on_disk - set(walls.rooms)):
        yield f"{room}: no such room in architecture.toml"
    for room in sorted(set(walls.rooms) - on_disk - set(walls.planned)):
        yield f"{room}: in architecture.toml, and neither on disk nor planned"
    for room in sorted(set(walls.planned) & on_disk):
        yield f"{room}: stands on disk, so it is no longer planned"
    for room in sorted(set(walls.planned) - set(walls.rooms)):
        yield f"{room}: planned without walls"
    for name, room in walls.rooms.items():
        for other in sorted(set(room.may) - set(walls.rooms)):
            yield f"{name}: may import {other}, which is no room"
    try:
        TopologicalSorter({name: room.may for name, room in walls.rooms.items()}).prepare()
    except CycleError as error:
        yield f"the walls run in a circle: {' → '.join(error.args[1])}"


def _import_breaches(name: str, tree: ast.Module, walls: Walls) -> Iterator[tuple[int, str]]:
    room = walls.rooms[name]
    for imported in imports(tree):
        top, *rest = imported.module.split(".")
        if not top:
            yield imported.line, "relative imports are refused: write from covey.… import …"
        elif top == FRONT:
            target = rest[0] if rest and rest[0] in walls.rooms else FRONT
            if target not in (name, *room.may):
                yield imported.line, f"{name} may not import {target} (as {imported.module})"
        elif top in sys.stdlib_module_names or top in room.third:
            continue
        elif top not in (*room.lazy, *room.elsewhere):
            yield imported.line, f"{name} may not import {top}"
        elif not imported.deferred:
            yield imported.line, f"{name} may import {top} only inside a function"


def imports(node: ast.AST, deferred: bool = False) -> Iterator[Import]:
    """Every import below ``node``; a relative one starts with a dot.

    ``importlib.import_module("name")`` counts. Inside a function or under ``if TYPE_CHECKING:``
    an import is deferred.
    """
    match node:
        case ast.Import(names=names):
            yield from (Import(alias.name, node.lineno, deferred) for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = "." * level + (module or "")
            names = [f"{FRONT}.{alias.name}" for alias in names] if base == FRONT else [base]
            yield from (Import(name, node.lineno, deferred) for name in names)
        case ast.Call(
            func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(value=str(module)), *_]
        ):
            if called in ("import_module", "__import__"):
                yield Import(module, node.lineno, deferred)
    for part, children in ast.iter_fields(node):
        later = deferred or (part == "body" and _defers(node))
        for child in children if isinstance(children, list) else [children]:
            if isinstance(child, ast.AST):
                yield from imports(child, later)


def _defers(node: ast.AST) -> bool:
    """Does importing the file leave the body of this node alone?"""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return True
    return False


def _size_breaches(source: str, tree: ast.Module, limits: Limits) -> Iterator[tuple[int, str]]:
    if (lines := len(source.splitlines())) > limits.file_lines:
        yield lines, f"the file has {lines} lines, of {limits.file_lines}"
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > limits.function_lines:
                    yield node.lineno, f"{name} has {lines} lines, of {limits.function_lines}"
            case ast.ClassDef(name=name, bases=bases, body=body) if any(_is_protocol(base) for base in bases):
                methods = sum(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in body)
                if methods > limits.protocol_methods:
                    yield node.lineno, f"{name} has {methods} methods, of {limits.protocol_methods}"


def _is_protocol(base: ast.expr) -> bool:
    match base:
        case ast.Name(id="Protocol") | ast.Attribute(attr="Protocol"):
            return True
        case ast.Subscript(value=value):
            return _is_protocol(value)
    return False


def table(walls: Walls) -> str:
    """The rooms as a Markdown table."""

    def names(values: Sequence[str], elsewhere: Sequence[str] = ()) -> str:
        there = (f"`{value}` (in another Python)" for value in elsewhere)
        return " ".join([*(f"`{value}`" for value in values), *there]) or "–"

    rows = [
        f"| `{name}`{' (planned)' if name in walls.planned else ''} "
        f"| {names(room.may)} | {names(room.third)} | {names(room.lazy, room.elsewhere)} |"
        for name, room in walls.rooms.items()
    ]
    head = "| room | may import | packages | only inside a function |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def with_table(text: str, walls: Walls) -> str:
    """``text`` with the part between the two marks replaced by the table."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table(walls)}\n\n{END}{after}"


if __name__ == "__main__":
    page = ROOT / "ARCHITECTURE.md"
    page.write_text(
        with_table(page.read_text(encoding="utf-8"), read(ROOT / "architecture.toml")), encoding="utf-8"
    )
