"""`covey compare RUN RUN`: in what two runs differ, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from covey.audit.made_of import SECTIONS, Unequal, unequal
from covey.evals.evaluate import difference, summary
from covey.records import RunReader
from covey.records.migrations import Row
from covey.types import Answer, CoveyError, Evaluation


@dataclass(frozen=True, slots=True)
class Outcome:
    """Two runs' answers to the held-out problems that both were given, in one draw (``greedy`` or
    ``sampled``): their means with intervals, and ``change``, the paired difference, second minus first."""

    draw: str
    problems: int
    one: dict[str, float]
    other: dict[str, float]
    change: dict[str, float]

    @property
    def verdict(self) -> str:
        """``better`` and ``worse`` only where the interval excludes 0."""
        if self.change["low"] > 0:
            return "better"
        return "worse" if self.change["high"] < 0 else "no difference that can be told from chance"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs by section, up to which step the chains agree, and the results; ``obstacle`` says why
    there are none."""

    one: Path
    other: Path
    differs: dict[str, list[Unequal]]
    chain: str
    steps: tuple[int | None, int | None]
    outcomes: list[Outcome]
    obstacle: str | None

    def as_json(self) -> dict[str, Any]:
        sections = {name: [asdict(one) for one in found] for name, found in self.differs.items()}
        outcomes = [{**asdict(one), "verdict": one.verdict} for one in self.outcomes]
        return {
            "runs": [str(self.one), str(self.other)],
            "differs": sections,
            "chain": self.chain,
            "evaluated_after_steps": self.steps,
            "results": outcomes,
            "obstacle": self.obstacle,
        }


def compare(one: Path, other: Path) -> Comparison:
    """Compare two runs by their records. Raises CoveyError for a folder that is none."""
    readers = RunReader(one), RunReader(other)
    manifests = [_manifest(reader) for reader in readers]
    differs = {name: unequal(manifests[0], manifests[1], keys) for name, keys in SECTIONS.items()}
    last = [_last(reader) for reader in readers]
    outcomes, obstacle = _outcomes(manifests, last)
    steps = tuple(None if e is None else e.step for e in last)
    return Comparison(one, other, differs, _chains(*readers), (steps[0], steps[1]), outcomes, obstacle)


def _manifest(reader: RunReader) -> Row:
    """A run's manifest, with the recipe that it goes by now."""
    manifest = reader.manifest()
    return {**manifest, "recipe": reader.recipe()} if "recipe" in manifest else manifest


def _last(reader: RunReader) -> Evaluation | None:
    return max(reader.evaluations(), key=lambda evaluation: evaluation.step, default=None)


def _outcomes(
    manifests: Sequence[Mapping[str, Any]], last: Sequence[Evaluation | None]
) -> tuple[list[Outcome], str | None]:
    one, other = last
    if one is None or other is None:
        return [], "a run without an evaluation has no results"
    if unequal(manifests[0], manifests[1], ["recipe.reward"]):
        return [], "the rewards differ, so that scores of one run mean nothing beside the other's"
    outcomes: list[Outcome] = []
    for draw in ("greedy", "sampled"):
        mine: tuple[Answer, ...] = getattr(one, draw)
        others: tuple[Answer, ...] = getattr(other, draw)
        both = {answer.problem_id for answer in mine} & {answer.problem_id for answer in others}
        mine, others = (tuple(a for a in answers if a.problem_id in both) for answers in (mine, others))
        if not both:
            return [], "the runs were measured on different held-out problems"
        try:
            change = asdict(difference(mine, others))
        except CoveyError as error:
            return [], f"{draw}: {error}"
        shown = [summary(Evaluation(0, answers, ()))["greedy"] for answers in (mine, others)]
        outcomes.append(Outcome(draw, len(both), shown[0], shown[1], change))
    return outcomes, None


def _chains(one: RunReader, other: RunReader) -> str:
    """How far two runs went the same way, in a sentence."""
    links = [reader.chain() for reader in (one, other)]
    if not all(links):
        return "a run without a chain can't be followed step by step"
    for mine, others in zip(*links, strict=False):
        parts = [name for name in mine if name not in ("step", "hash") and mine[name] != others.get(name)]
        if parts:
            return f"first differ at step {mine['step']}: {', '.join(parts)}"
    steps = min(map(len, links))
    return f"equal over {'all ' if len(links[0]) == len(links[1]) else 'the first '}{steps} steps"
