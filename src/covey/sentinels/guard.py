"""The sentinels of a run at their posts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from covey.protocols import Watch
from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import CoveyError, Group, Update, Weights

QUIET = 20
"""Steps for which a sentinel that has warned keeps silent."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a sentinel found at optimizer step ``step``, counted from 0."""

    sentinel: str
    level: Level
    step: int
    finding: Finding

    @property
    def line(self) -> str:
        """The diagnosis in one line; a traceback in the evidence is left to the record."""
        f = self.finding
        evidence = f.evidence.partition("\n")[0]
        return (
            f"{self.sentinel} ({self.place}): {f.what}. {evidence}. Likely cause: {f.cause}. "
            f"What to do: {f.remedy}. See {self.page}"
        )

    @property
    def text(self) -> str:
        """The diagnosis in a few lines, the first of which says what is wrong."""
        f = self.finding
        return "\n".join(
            (
                f"stopped in {self.place} by the sentinel {self.sentinel!r}: {f.what}",
                f"  evidence      {f.evidence}",
                f"  likely cause  {f.cause}",
                f"  what to do    {f.remedy}",
                f"  more          {self.page}; to go on regardless: covey resume RUN "
                f"--sentinels.{self.sentinel} warn",
            )
        )

    @property
    def place(self) -> str:
        """The step as people count it, and where its record is."""
        return f"step {self.step + 1} (rollouts/{self.step:06d}.jsonl)"

    @property
    def page(self) -> str:
        return f"docs/sentinels/{self.sentinel}.md"


class Stopped(CoveyError):
    """A sentinel has ended the run. The message is the diagnosis; ``reports`` are all that stopped it."""

    def __init__(self, reports: Sequence[Report]) -> None:
        first, *others = reports
        also = "".join(f"\n  also          {r.sentinel}: {r.finding.what}" for r in others)
        super().__init__(first.text + also)
        self.reports = tuple(reports)


class Guard(Watch):
    """Asks every sentinel at each moment of a run, tells what they find, and stops the run if need be.

    sentinels: (sentinel, its level), nearest the cause first. tell: is given each report, and is
    done with it before a run is stopped; of a sentinel that goes on warning, one in `QUIET` steps.
    """

    def __init__(self, sentinels: Sequence[tuple[Sentinel, Level]], tell: Callable[[Report], None]) -> None:
        self.sentinels, self.tell = sentinels, tell
        self._warned: dict[str, int] = {}

    def recall(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take note of a step that was recorded by an earlier attempt."""
        for sentinel, _ in self.sentinels:
            sentinel.remember(step, metrics)

    def sampled(self, step: int, groups: Sequence[Group]) -> None:
        self._ask(step, lambda sentinel: sentinel.sampled(step, groups))

    def learned(self, step: int, groups: Sequence[Group], update: Update) -> None:
        self._ask(step, lambda sentinel: sentinel.learned(step, groups, update))
        self.recall(step, update.metrics)

    def loaded(self, step: int, weights: Weights) -> None:
        self._ask(max(step - 1, 0), lambda sentinel: sentinel.loaded(step, weights))

    def _ask(self, step: int, question: Callable[[Sentinel], Finding | None]) -> None:
        """Raises `Stopped` when any sentinel finds what its level stops a run for."""
        reports: list[Report] = []
        for sentinel, level in self.sentinels:
            finding = question(sentinel)
            if finding is not None:
                level = "warn" if finding.level == "warn" else level
                reports.append(Report(sentinel.name, level, step, finding))
        for report in reports:
            if report.level == "stop" or self._due(report):
                self.tell(report)
        if stops := [report for report in reports if report.level == "stop"]:
            raise Stopped(stops)

    def _due(self, report: Report) -> bool:
        last = self._warned.get(report.sentinel)
        if last is not None and report.step < last + QUIET:
            return False
        self._warned[report.sentinel] = report.step
        return True
