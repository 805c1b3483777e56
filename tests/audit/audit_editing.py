"""Editing a record as its forger would: one field of one file, or a field and every hash over it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from covey.records import hash_file
from covey.records.chain import link, metrics_part, origin, rollout_parts

Keys: TypeAlias = tuple[str | int, ...]

FREE = {
    "manifest.json": {"code", "environment"},
    "summary.json": {"run", "train_seconds"},
}
"""Keys that nothing implies; docs/verify.md lists them."""


@dataclass(frozen=True)
class Field:
    """A leaf of a file: ``line`` counts from 0, and is 0 for a document."""

    file: str
    line: int
    keys: Keys


def fields(run: Path) -> list[Field]:
    """Every leaf of the record that isn't free."""
    found: list[Field] = []
    for name in ("manifest.json", "summary.json"):
        content = json.loads((run / name).read_text())
        free = FREE[name]
        found += [Field(name, 0, keys) for keys in leaves(content) if keys[0] not in free]
    lined = ["metrics.jsonl", "chain.jsonl"]
    lined += [
        str(path.relative_to(run)) for folder in ("rollouts", "evals") for path in (run / folder).iterdir()
    ]
    for name in sorted(lined):
        for line, text in enumerate((run / name).read_text().splitlines()):
            found += [Field(name, line, keys) for keys in leaves(json.loads(text))]
    return found


def leaves(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    empty = True
    for key, item in inside:
        empty = False
        yield from leaves(item, (*keys, key))
    if empty:
        yield keys


def edit(run: Path, field: Field, change: Callable[[Any], Any]) -> dict[str, Any]:
    """Change one leaf in place, all other bytes staying as they are; its row as it was."""
    path = run / field.file
    document = path.suffix == ".json"
    lines = [path.read_text()] if document else path.read_text().split("\n")
    row = json.loads(lines[field.line])
    before = json.loads(lines[field.line])
    at = row
    for key in field.keys[:-1]:
        at = at[key]
    at[field.keys[-1]] = change(at[field.keys[-1]])
    text = json.dumps(row, indent=1) + "\n" if document else json.dumps(row, separators=(",", ":"))
    lines[field.line] = text
    path.write_text("\n".join(lines))
    return before


def other(value: Any) -> Any:
    """A value of the same kind, as near as it gets."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return math.nextafter(value, math.inf)
    if isinstance(value, str):
        return ("0" if value[:1] != "0" else "1") + value[1:]
    return 0 if value is None else [*value, 0] if isinstance(value, list) else {**value, "more": 0}


def field(run: Path, file: str, name: str, **where: Any) -> Field:
    """The field of a dotted name, in the document or in the first row that has all of ``where``."""
    keys = tuple(int(key) if key.isdigit() else key for key in name.split("."))
    if file.endswith(".json"):
        return Field(file, 0, keys)
    for line, text in enumerate((run / file).read_text().splitlines()):
        row = json.loads(text)
        if all(row.get(key) == value for key, value in where.items()):
            return Field(file, line, keys)
    raise AssertionError(f"{file} has no row with {where}")


def left_out(run: Path) -> tuple[int, int]:
    """(step, group) of a recorded group that wasn't trained on: what it says, nothing else repeats."""
    for path in sorted((run / "rollouts").iterdir()):
        for text in path.read_text().splitlines():
            if (row := json.loads(text)).get("excluded"):
                return row["step"], row["group"]
    raise AssertionError("every group was trained on: take another seed")


def forge(run: Path) -> None:
    """Write all hashes anew, as one would who had edited the record and knew of them."""
    manifest = json.loads((run / "manifest.json").read_text())
    metrics = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()[1:]]
    header, *links = (run / "chain.jsonl").read_text().splitlines()
    head, rows = origin(manifest), []
    for step, text in enumerate(links):
        parts = {**json.loads(text), **rollout_parts(run / "rollouts" / f"{step:06d}.jsonl")}
        row = link(step, head, {**parts, "metrics": metrics_part(metrics[step])})
        rows.append(json.dumps(row, separators=(",", ":")))
        head = row["hash"]
    (run / "chain.jsonl").write_text("\n".join([header, *rows, ""]))
    summary = json.loads((run / "summary.json").read_text())
    evaluations = {str(int(p.stem)): hash_file(p) for p in sorted((run / "evals").iterdir())}
    summary |= {"chain": head, "evaluations": evaluations}
    (run / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
