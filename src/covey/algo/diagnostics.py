"""What to watch: log-ratios kept per token, and their summary over a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from covey.algo.batch import PerToken, TokenBatch
from covey.algo.ratio import bounded_exp


def observe(batch: TokenBatch, log_ratio: PerToken) -> dict[str, PerToken]:
    """The detached log-ratios of a micro-batch: the algorithm's own (``log_ratio``), the policy's
    movement since the update began (``log_moved``, π_θ/π_old), the engines' disagreement
    (``log_mismatch``, π_old/π_sampler) and the distance to the reference (``log_reference``,
    π_ref/π_θ); the last two where the batch has the log-probs."""
    logp, old = batch.logp.detach(), batch.anchor("learner").detach()
    seen = {"log_ratio": log_ratio.detach(), "log_moved": logp - old}
    if batch.sampler_logp is not None:
        seen["log_mismatch"] = old - batch.sampler_logp
    if batch.ref_logp is not None:
        seen["log_reference"] = batch.ref_logp - logp
    return seen


def summary(micro_batches: Sequence[Mapping[str, Float[Tensor, " _"]]]) -> dict[str, float]:
    """The metrics of a step from its micro-batches' (`TokenLoss.metrics`), every token alike.

    The same whatever the split: per-token values, of any number a micro-batch, are laid end to end
    before anything is reduced.
    """
    names = micro_batches[0] if micro_batches else {}
    whole = {name: torch.cat([m[name] for m in micro_batches]).double() for name in names}
    out: dict[str, float] = {}
    for name, values in whole.items():
        if not values.numel():
            continue
        if name in _SUMMARIES:
            out |= _SUMMARIES[name](values)
        else:
            out[name] = values.mean().item()
    return out


def ratio_metrics(log_ratio: PerToken) -> dict[str, float]:
    """Mean and extremes of the ratio that the surrogate sees."""
    ratio = bounded_exp(log_ratio)
    return {
        "ratio_mean": ratio.mean().item(),
        "ratio_min": ratio.min().item(),
        "ratio_max": ratio.max().item(),
    }


def moved_metrics(log_moved: PerToken) -> dict[str, float]:
    """``kl_old``: KL(π_old ‖ π_θ) by k3, on tokens that π_old drew."""
    return {"kl_old": (bounded_exp(log_moved) - 1 - log_moved).mean().item()}


def reference_metrics(log_reference: PerToken) -> dict[str, float]:
    """``kl_ref``: KL(π_θ ‖ π_ref) by k3."""
    return {"kl_ref": (bounded_exp(log_reference) - 1 - log_reference).mean().item()}


def mismatch_metrics(log_mismatch: PerToken) -> dict[str, float]:
    """How far the engine that sampled is from the learner, ρ = π_old/π_sampler.

    KL(π_sampler ‖ π_old) by k1 and k3, mean |log ρ|, ρ's mean and extremes, χ² = mean ρ² - 1, and
    the effective sample size as a share of the tokens, (Σρ)²/(n Σρ²).
    """
    rho = bounded_exp(log_mismatch)
    return {
        "mismatch_k1": -log_mismatch.mean().item(),
        "mismatch_k3": (rho - 1 - log_mismatch).mean().item(),
        "mismatch_abs": log_mismatch.abs().mean().item(),
        "mismatch_ratio_mean": rho.mean().item(),
        "mismatch_ratio_min": rho.min().item(),
        "mismatch_ratio_max": rho.max().item(),
        "mismatch_chi2": (rho.square().mean() - 1).item(),
        "mismatch_ess": (rho.sum().square() / (len(rho) * rho.square().sum())).item(),
    }


_SUMMARIES = {
    "log_ratio": ratio_metrics,
    "log_moved": moved_metrics,
    "log_reference": reference_metrics,
    "log_mismatch": mismatch_metrics,
}
