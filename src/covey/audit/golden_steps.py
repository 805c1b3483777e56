"""The micro-batch rows of a golden-vector case: the exact sum, and the ways to get it wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from covey.algo import Algorithm, Choice
from covey.audit.golden_case import Case
from covey.audit.golden_names import GROUP_STD
from covey.audit.golden_rows import Results, Row, Sum, section_rows
from covey.types import CoveyError

_CLIPPED = Algorithm(
    advantage=GROUP_STD,
    surrogate=Choice("clip", {"low": 0.2, "high": 0.28}),
    aggregation=Choice("token_mean"),
)
"""The loss that the micro-batch rows of a file are sums of."""


def micro_batch_rows(name: str, case: Case, section: Mapping[str, Any], tolerance: float) -> Iterator[Row]:
    """Every micro-batch row of a case; its split is the section's ``micro_batches``."""
    yield from section_rows(
        name,
        section,
        lambda: _sums(case, _split(f"{name}.micro_batches", case, section.get("micro_batches"))),
        tolerance=tolerance,
        inputs={"micro_batches"},
    )


def _split(row: str, case: Case, ranges: Any) -> Tensor:
    """The micro-batch of each row, from ``["rows 0-3", …]``; every row must be in exactly one."""
    owner = torch.full_like(case.lengths, -1)
    for i, text in enumerate(ranges if isinstance(ranges, list) else []):
        found = re.fullmatch(r"rows (\d+)-(\d+)", str(text))
        if not found:
            raise CoveyError(f"row {row}: {text!r} is not of the form 'rows 0-3'")
        rows = slice(int(found[1]), int(found[2]) + 1)
        if bool((owner[rows] >= 0).any()):
            raise CoveyError(f"row {row}: {text!r} overlaps another micro-batch")
        owner[rows] = i
    if bool((owner < 0).any()):
        raise CoveyError(f"row {row}: row {int((owner < 0).nonzero()[0])} is in no micro-batch")
    return owner


def _sums(case: Case, owner: Tensor) -> Results:
    tokens = _CLIPPED.replace(aggregation="token_mean")
    sequences = _CLIPPED.replace(aggregation="sequence_mean")
    local = _CLIPPED.replace(aggregation="local_token_mean")
    parts = [owner == i for i in range(int(owner.max()) + 1)]
    advantage, weight = case.advantages(tokens), case.weights(tokens)
    whole = case.compute(tokens)
    each = [case.rows(p).compute(tokens, advantage=advantage[p], weight=weight[p]) for p in parts]
    contributions = torch.stack([part.loss for part in each])
    alone = [case.rows(p).compute(sequences, advantage=advantage[p]) for p in parts]
    live = case.rows(~case.zero_variance())
    return {
        "tokens_per_micro": [int(case.lengths[p].sum()) for p in parts],
        "dapo_token_mean_full": whole.total,
        "dapo_micro_contributions": Sum(contributions, whole.scale),
        "dapo_sum_of_contributions": Sum(contributions.sum(), whole.scale),
        "dapo_naive_mean_of_micro_means": case.compute(local, weight=case.weights(local, owner)).total,
        "dapo_extra_division_by_gas": Sum(whole.loss / len(parts), whole.scale / len(parts)),
        "grpo_seq_mean_full": case.compute(sequences).total,
        "grpo_mean_of_micro_means": Sum(_mean([p.loss for p in alone]), _mean([p.scale for p in alone])),
        "dapo_zero_std_group_dropped": live.compute(tokens).total,
        "grpo_zero_std_group_dropped": live.compute(sequences).total,
    }


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
