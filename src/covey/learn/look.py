"""A look at the whole rollout before the first optimizer step on it.

Some algorithms need to know more than a micro-batch can tell: what the policy gave every token before
it moved, how far it already is from its reference, which tokens stand out among all. One pass without
gradient finds out; the rest is arithmetic on its numbers, which the record keeps.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from covey.algo import Algorithm, StepTokens, TokenBatch, reward_penalty, select_tokens
from covey.learn.batch import Trained
from covey.types import Sample


def columns(algorithm: Algorithm, *, moves: bool) -> tuple[str, ...]:
    """What a look keeps of every token: none where none is needed. ``moves``: several optimizer steps
    are taken on one rollout."""
    if not (moves or prices(algorithm) or algorithm.selection is not None):
        return ()
    reference = ("ref_logp",) if algorithm.needs_reference else ()
    selected = ("selected",) if algorithm.selection is not None else ()
    return ("old_logp", *reference, *selected)


def kept(algorithm: Algorithm, *, moves: bool) -> tuple[str, ...]:
    """What the record has of every token beside ``weight`` and the log-probs of learner and sampler: what
    a look found, and what else it takes to compute losses and coefficients again."""
    found = columns(algorithm, moves=moves)
    reference = ("ref_logp",) if algorithm.kl_control and "ref_logp" not in found else ()
    return (*found, *reference, *(("entropy",) if algorithm.entropy else ()))


def reference_distance(samples: Sequence[Sample]) -> float:
    """KL(π_θ ‖ π_ref) in nats a sequence: the mean over the trained ones of Σ (log π_θ - log π_ref), which
    is what Ziegler et al.'s controller is told."""
    total = math.fsum(a - b for s in samples for a, b in zip(s.logp, s.ref_logp, strict=True))
    return total / len(samples)


def prices(algorithm: Algorithm) -> bool:
    """Whether a KL comes off the rewards."""
    return algorithm.kl is not None and algorithm.kl_in == "reward"


def penalties(algorithm: Algorithm, sequences: Sequence[Trained | Sample]) -> list[float]:
    """What the algorithm's KL takes off each sequence's reward, from ``old_logp`` and ``ref_logp``; in
    float64, so that whoever sums again gets the same."""

    def tokens(name: str) -> Tensor:
        return _tokens([getattr(s, name) for s in sequences]).double()

    old = tokens("old_logp")
    batch = TokenBatch(
        logp=old,
        old_logp=old,
        sampler_logp=tokens("sampler_logp"),
        ref_logp=tokens("ref_logp") if algorithm.needs_reference else None,
        advantage=torch.zeros_like(old),
        sequence=_index([len(s.old_logp) for s in sequences]),
    )
    return reward_penalty(algorithm, batch).tolist()


def select(
    algorithm: Algorithm, sequences: Sequence[Trained], entropy: Sequence[Tensor], *, seed: int, step: int
) -> list[Trained]:
    """The sequences of one optimizer step, with the tokens marked that the algorithm singles out.

    ``entropy`` is the policy's at each chosen token, in nats. The same sequences when it selects none.
    """
    lengths = [len(s.old_logp) for s in sequences]
    tokens = StepTokens(
        logp=_tokens([s.old_logp for s in sequences]),
        advantage=torch.tensor([s.advantage for s in sequences])[_index(lengths)],
        entropy=torch.cat([e.cpu() for e in entropy]),
        draw=torch.cat([_draws(n, seed, step, s) for n, s in zip(lengths, sequences, strict=True)]),
    )
    selected = select_tokens(algorithm, tokens)
    if selected is None:
        return list(sequences)
    marks = selected.split(lengths)
    return [replace(s, selected=tuple(m.tolist())) for s, m in zip(sequences, marks, strict=True)]


def _draws(count: int, seed: int, step: int, s: Trained) -> Tensor:
    """Uniform numbers for the tokens of one episode, keyed by which it is."""
    key = hashlib.sha256(f"select {seed} {step} {s.group} {s.sample}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
    return torch.rand(count, generator=generator)


def _tokens(values: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor([x for several in values for x in several])


def _index(lengths: Sequence[int]) -> Tensor:
    return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
