"""The chain, taken again from the files it covers, and the tensors that are still there to be hashed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from covey.audit.drawn import redrawn
from covey.audit.findings import Check, Place
from covey.audit.meaning import Meanings
from covey.audit.recorded import Record, place_of
from covey.learn.checkpoint import FILES, REFERENCE
from covey.learn.learner import renewed_after
from covey.models.fingerprint import fingerprint, joined
from covey.records.chain import PARTS, link, metrics_part, origin, rollout_parts
from covey.records.checkpoints import COMPLETE, STATE
from covey.records.files import read_document, read_lines
from covey.records.migrations import Row
from covey.types import CoveyError


def chain_checks(record: Record, meanings: Meanings) -> Iterator[Check]:
    """The links, the saved model, the checkpoints."""
    check = Check("chain", "links hashed again")
    for step, row in enumerate(record.chain):
        _link(check, step, row, record)
    _ends(check, record)
    yield check
    yield model(record, meanings)
    yield checkpoints(record, meanings)


def _link(check: Check, step: int, row: Row, record: Record) -> None:
    """One row: does it follow from the one before, and are its files those it was taken from?"""
    place = {"step": step}
    if missing := [name for name in PARTS if name not in row]:
        check.fault(place, f"its link lacks {', '.join(missing)}")
        return
    check.count += 1
    previous = record.chain[step - 1].get("hash") if step else origin(record.manifest)
    check.same(place, "link's step", row.get("step"), step)
    computed = link(step, str(previous), row)["hash"]
    if row.get("hash") != computed:
        check.differs(place, "link's hash", row.get("hash"), computed)
        if step == 0:
            message = "its recipe, algorithm, model and data, or the first link, aren't what they were"
            check.fault({"file": "manifest.json"}, message)
    if metrics := record.metrics.get(step):
        check.same(place, "hash of its metrics", row["metrics"], metrics_part(metrics))
    if (path := record.layout.rollout(step)).exists():
        _rollout(check, place, row, path)


def _rollout(check: Check, place: Place, row: Row, path: Path) -> None:
    """The step's rollout file, row by row so that the changed one can be named."""
    parts = rollout_parts(path)
    check.same(place, "hash of its rollouts", row["rollouts"], parts["rollouts"])
    if parts["rows"] == row["rows"]:
        return
    check.same(place, "number of hashed rows", len(row["rows"]), len(parts["rows"]))
    try:
        rows = dict(read_lines(path, "rollout", []))
    except CoveyError:  # the check of the record says what is broken
        rows = {}
    for line, (recorded, computed) in enumerate(zip(row["rows"], parts["rows"], strict=False), start=2):
        at = place_of(rows[line]) if line in rows else place
        check.same({**at, "line": line}, "hash of the row", recorded, computed)


def _ends(check: Check, record: Record) -> None:
    """A link a step; the last may be missing where the run was killed."""
    steps, links = len(record.metrics), len(record.chain)
    if links > steps or links < steps - (record.summary is None):
        check.fault({"file": "chain.jsonl"}, f"it has {links} links for {steps} steps")


def model(record: Record, meanings: Meanings) -> Check:
    """The saved weights are those of the last link, or of an earlier one if the run went on after them."""
    check = Check("saved model", "folder of weights, hashed", count=1)
    folder = record.folder / "model"
    files = sorted(folder.glob("*.safetensors"))
    if not files or not record.chain:
        check.skipped = f"{folder if not files else record.layout.chain} isn't there"
        return check
    found = _weights(check, files, meanings)
    if found is None:
        return check
    links = [row.get("weights") for row in record.chain]
    if record.summary is not None:
        check.same({"step": len(links) - 1}, "hash of the weights", links[-1], found)
    elif found not in links:
        check.fault({"folder": "model"}, "its weights aren't those after any step")
    return check


def _weights(check: Check, files: Sequence[Path], meanings: Meanings) -> str | None:
    """The fingerprint of a saved model's trained tensors, as the chain takes it."""
    try:
        tensors = {name: tensor for path in files for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        check.fault({"folder": "model"}, f"its weights can't be read: {error}")
        return None
    words = meanings.first.words
    names = words.master.keys() if words else tensors.keys()
    if absent := [name for name in names if name not in tensors]:
        check.skipped = f"it is saved under other names than it is trained under ({absent[0]} isn't there)"
        return None
    return joined(fingerprint({name: tensors[name] for name in names}))


def checkpoints(record: Record, meanings: Meanings) -> Check:
    """Every complete checkpoint holds the tensors and the state of its link."""
    check = Check("checkpoints", "checkpoints hashed again")
    known = meanings.without("task") is None
    sources = {one.step + 1: state for one, _, state in redrawn(record, meanings)} if known else {}
    for step, folder in record.layout.checkpoints().items():
        place = {"checkpoint": step}
        if not (folder / COMPLETE).exists():
            continue
        check.count += 1
        if not 0 < step <= len(record.chain):
            check.fault(place, "the chain has no link for it")
            continue
        row = record.chain[step - 1]
        try:
            state = read_document(folder / STATE, "checkpoint")
            parts = {name: joined(fingerprint(load_file(folder / file))) for name, file in FILES.items()}
            _reference(check, place, record, meanings, step, folder)
        except (CoveyError, OSError, SafetensorError) as error:
            check.fault(place, str(error))
            continue
        for name, value in parts.items():
            check.same(place, f"hash of the {name}", row.get(name), value)
        for name, value in _state(record, step, row, sources.get(step)).items():
            check.same(place, name, state.get(name), value)
    if not check.count:
        check.skipped = "there is none"
    return check


def _reference(
    check: Check, place: Place, record: Record, meanings: Meanings, step: int, folder: Path
) -> None:
    """A reference that the run has renewed is the policy of the link it was renewed after."""
    meaning = meanings.at(step - 1)
    renewed = renewed_after(step, meaning.recipe.train.reference_every)
    due = renewed > 0 and meaning.algorithm.needs_reference
    path = folder / REFERENCE
    check.same(place, f"whether it has {REFERENCE}", path.exists(), due)
    if due and path.exists():
        found = joined(fingerprint(load_file(path)))
        check.same(place, "hash of the reference", record.chain[renewed - 1].get("weights"), found)


def _state(record: Record, step: int, row: Row, source: Row | None) -> Row:
    """What the record implies of a checkpoint's state."""
    implied: Row = {
        "step": step,
        "policy_version": record.version(step),
        "chain": row.get("hash"),
        "run": origin(record.manifest),
    }
    if source is not None:
        implied["source"] = source
    return implied
