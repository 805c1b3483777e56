"""Estimators of KL(π_θ ‖ π_ref) from the sampled token, as a penalty per token.

With d = log π_ref/π_θ. ``against`` names π_ref: the frozen reference, or the learner's or
sampler's own earlier policy. ``coefficient`` is β.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from covey.algo.batch import PerToken, TokenBatch
from covey.algo.ratio import bounded_exp

Against: TypeAlias = Literal["reference", "learner", "sampler"]


def _k3(d: PerToken) -> PerToken:
    return bounded_exp(d) - d - 1


def k1(batch: TokenBatch, *, coefficient: float, against: Against = "reference") -> PerToken:
    """-d: unbiased in value; as a loss its expected gradient is 0, so it belongs in the reward."""
    return coefficient * (batch.logp - batch.anchor(against))


def k2(batch: TokenBatch, *, coefficient: float, against: Against = "reference") -> PerToken:
    """d²/2: biased in value; on-policy its gradient is the reverse KL's."""
    return coefficient * (batch.anchor(against) - batch.logp).square() / 2


def k3(batch: TokenBatch, *, coefficient: float, against: Against = "reference") -> PerToken:
    """e^d - d - 1 ≥ 0 (DeepSeekMath 2402.03300 eq. 4): unbiased in value; the gradient it gives is
    the *forward* KL's, and its size e^d - 1 is unbounded where π_θ « π_ref."""
    return coefficient * _k3(batch.anchor(against) - batch.logp)


def ratio_k3(batch: TokenBatch, *, coefficient: float, against: Against = "reference") -> PerToken:
    """(π_θ/π_old)·(e^d - d - 1) (DeepSeek-V3.2 2512.02556 eq. 7): the ratio carries gradient, which
    is what makes the expected gradient the reverse KL's, on-policy included."""
    ratio = bounded_exp(batch.logp - batch.anchor("learner"))
    return coefficient * ratio * _k3(batch.anchor(against) - batch.logp)


def adaptive_coefficient(
    coefficient: float, observed: float, sequences: int, *, target: float, horizon: int = 10_000
) -> float:
    """The next step's β: a little more while the observed KL (nats a sequence) is above ``target``, a
    little less below it (Ziegler et al. 1909.08593, 2.2). ``sequences`` is how many the step held."""
    error = min(max(observed / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * sequences / horizon)


KL = {"k1": k1, "k2": k2, "k3": k3, "ratio_k3": ratio_k3}

KL_CONTROLS = {"adaptive": adaptive_coefficient}
