"""What the manifest says the run was made of, against what its recipe means."""

from __future__ import annotations

from collections.abc import Iterator

from covey.audit.findings import Check, first_difference
from covey.audit.meaning import Meaning, Meanings
from covey.audit.recorded import Record
from covey.build import assemble, watch
from covey.types import CoveyError

PLACE = {"file": "manifest.json"}


def origin_checks(record: Record, meanings: Meanings) -> Iterator[Check]:
    """The algorithm, the sentinels, the data and the model that the manifest's recipe stands for."""
    for check in (algorithm, sentinels, data, model):
        yield check(record, meanings.first)


def algorithm(record: Record, meaning: Meaning) -> Check:
    """The five choices that the preset and its changes make."""
    check = Check("algorithm", "algorithm resolved from the recipe", count=1)
    recorded = record.manifest.get("algorithm", "nothing")
    if found := first_difference(recorded, meaning.algorithm.describe(), "algorithm"):
        check.differs(PLACE, *found)
    return check


LATER = ("length_gain", "listing", "duplicates", "oracle")
"""Sentinels that the manifests of earlier records don't have."""


def sentinels(record: Record, meaning: Meaning) -> Check:
    """Who was on guard, at which level and threshold."""
    check = Check("sentinels", "sentinels as the recipe posts them")
    recorded = record.manifest.get("sentinels", "nothing")
    posted = watch.described(meaning.recipe)
    check.count = len(posted)
    posted = {name: value for name, value in posted.items() if name in recorded or name not in LATER}
    if found := first_difference(recorded, posted, "sentinels"):
        check.differs(PLACE, *found)
    return check


def data(record: Record, meaning: Meaning) -> Check:
    """Number and hash of the problems, generated or read again."""
    check = Check("data", "splits hashed again")
    if meaning.task is None:
        check.skipped = meaning.missing["task"]
        return check
    recorded = record.manifest.get("data", {})
    for split, problems in (("train", meaning.train), ("heldout", meaning.heldout)):
        wanted = {"problems": len(problems), "sha256": assemble.problems_hash(problems)}
        check.count += 1
        if found := first_difference(recorded.get(split, "nothing"), wanted, f"data.{split}"):
            check.differs(PLACE, *found)
    return check


def model(record: Record, meaning: Meaning) -> Check:
    """The model's size and dtype, the hash of the file or folder it was loaded from, and of reward models."""
    check = Check("model", "model of that size and origin", count=1)
    recorded = record.manifest.get("model", {})
    if meaning.words is None:
        check.skipped = meaning.missing["tokenizer"]
    else:
        wanted = sum(tensor.numel() for tensor in meaning.words.master.values())
        check.same(PLACE, "model.parameters", recorded.get("parameters"), wanted)
    if meaning.recipe.model.dtype != "auto":
        check.same(PLACE, "model.dtype", recorded.get("dtype"), meaning.recipe.model.dtype)
    try:
        found = assemble.model_hash(meaning.recipe)
    except CoveyError:  # the package or folder it came from isn't here
        return check
    if found is not None or meaning.recipe.model.name is None:
        check.same(PLACE, "model.sha256", recorded.get("sha256"), found)
    graders = record.manifest.get("reward_models", {})
    for name, digest in assemble.reward_models(meaning.recipe.reward).items():
        if digest is not None:  # its folder is here
            check.same(PLACE, f"reward_models.{name}", graders.get(name), digest)
    return check
