"""A check of the learner by itself: the gradient must not depend on the split into micro-batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from covey.learn.batch import MicroBatch, Trained, prepare
from covey.learn.learner import PolicyLearner
from covey.models import Policy
from covey.types import Group

TAKEN = (2, 1)
"""Sequences the check is made on: so many of the first group with a signal, and of the second."""

WEIGHTS = 1 << 20
"""And so many parameters at most, the smallest tensors: norms and biases of every layer. Whatever
is wrong with a loss or an attention mask shows in all, and large matrices cost most of a pass."""


def split_difference(learner: PolicyLearner, groups: Sequence[Group]) -> float | None:
    """‖g₁ - g₂‖ / ‖g₁‖ of one gradient taken twice: of three sequences in one micro-batch, and in two.

    The first is put apart from its sibling and from another group's sequence: so whatever the size of
    a micro-batch changes, or neighbours see of each other, shows. Nothing is updated, and nothing stays
    gathered. None where there is nothing to compare: no signal, or a memory budget for one sequence.
    """
    few = _few(prepare(learner.algorithm, groups, learner.max_length, parts=learner.parts))
    while few and MicroBatch(tuple(few)).tokens > learner.budget:
        few.pop()
    if len(few) < 2:
        return None
    few = list(learner.looked(0, few))
    with _smallest(learner.policy):
        try:
            whole = _gradient(learner, [few])
            parts = _gradient(learner, [few[:1], few[1:]])
        finally:
            learner.optimizer.clear()
    if whole.keys() != parts.keys():
        return math.inf  # a parameter that only one of them has a gradient for
    norm = _norm(whole)
    return _norm({name: whole[name] - parts[name] for name in whole}) / norm if norm else None


def _few(sequences: Sequence[Trained]) -> list[Trained]:
    """Of the first groups with a signal, the sequences with the largest advantages, in order."""
    by_group: dict[int, list[Trained]] = {}
    for s in sequences:
        if s.advantage:
            by_group.setdefault(s.group, []).append(s)
    strongest = (sorted(group, key=lambda s: -abs(s.advantage)) for group in by_group.values())
    return [s for group, count in zip(strongest, TAKEN, strict=False) for s in group[:count]]


@contextmanager
def _smallest(policy: Policy) -> Iterator[None]:
    """Gradients for the smallest parameters only."""
    learning = [p for _, p in policy.parameters() if p.requires_grad]
    taken = 0
    try:
        for parameter in sorted(learning, key=lambda p: p.numel()):
            taken += parameter.numel()
            parameter.requires_grad_(taken <= WEIGHTS)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _gradient(learner: PolicyLearner, parts: Sequence[Sequence[Trained]]) -> dict[str, Tensor]:
    learner.optimizer.clear()
    for part in parts:
        learner.backward(MicroBatch(tuple(part)))
    gradient = learner.optimizer.gradients()
    learner.optimizer.clear()
    return gradient


def _norm(gradient: Mapping[str, Tensor]) -> float:
    return torch.nn.utils.get_total_norm(list(gradient.values())).item()
