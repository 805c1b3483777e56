"""Groups, samples and metrics as plain data, and how a sentinel is asked about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from covey.sentinels import SENTINELS, Finding, Sentinel, Setting
from covey.types import Completion, Episode, Group, Problem, Sample, Score, StopReason, Turn, Update

MARKS = Setting(template_tokens={90: "<|start|>", 91: "<|end|>"})


def posted(name: str, setting: Setting | None = None, **thresholds: Any) -> Sentinel:
    return SENTINELS[name](setting=setting or Setting(), **thresholds)


def episode(
    sample: int,
    ids: Sequence[int] = (5, 6, 7),
    logp: float | None = -1.0,
    prompt: Sequence[int] = (1, 2),
    version: int = 0,
) -> Episode:
    column = None if logp is None else (logp,) * len(ids)
    completion = Completion(tuple(ids), column, StopReason.END, version, text=f"text {list(ids)}")
    return Episode(Problem("p", ()), sample, (Turn(tuple(prompt), completion),))


def group(*episodes: Episode, scores: Sequence[float | None] = (), excluded: str | None = None) -> Group:
    values = [*scores] or [float(i % 2) for i in range(len(episodes))]
    graded = tuple(Score(v, error=None if v is not None else "the grader timed out") for v in values)
    return Group(Problem("p", (), answer="42"), episodes, graded, excluded)


def trained(index: int, e: Episode, **changes: Any) -> Sample:
    n = e.chosen
    sample = Sample(index, e.sample, 0.5, (0.1,) * n, (-1.0,) * n, e.sampler_logp or (), e.chosen_ids)
    return replace(sample, **changes)


def learned(sentinel: Sentinel, metrics: Mapping[str, float], groups: Sequence[Group] = ()) -> Finding | None:
    """One step of metrics, as the guard would show and then have remembered."""
    update = Update(True, metrics)
    finding = sentinel.learned(0, groups, update)
    sentinel.remember(0, metrics)
    return finding


def complete(finding: Finding | None) -> Finding:
    """A diagnosis has all its parts."""
    assert finding is not None
    assert all((finding.what, finding.evidence, finding.cause, finding.remedy))
    assert not any(part.endswith(".") for part in (finding.what, finding.cause, finding.remedy))
    return finding
