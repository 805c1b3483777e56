"""The loss, gradient and correction rows of a golden-vector case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from covey.algo import Algorithm
from covey.algo.diagnostics import mismatch_metrics
from covey.algo.ratio import bounded_exp
from covey.audit.golden_case import Case
from covey.audit.golden_names import AGGREGATIONS, PLAIN, correction_choice, loss_algorithm
from covey.audit.golden_rows import Results, Row, Sum, broken, section_rows, unknown


def loss_rows(name: str, case: Case, losses: Mapping[str, Any], tolerance: float) -> Iterator[Row]:
    """Every row of every loss of a case."""
    for loss_name, section in losses.items():
        try:
            algorithm = loss_algorithm(loss_name)
        except ValueError as error:
            yield broken(f"{name}.{loss_name}", f"row {name}.{loss_name}: {error}")
            continue
        if algorithm is None:
            yield unknown(f"{name}.{loss_name}", section)
            continue
        yield from section_rows(
            f"{name}.{loss_name}",
            section,
            lambda algorithm=algorithm, section=section: _loss(case, algorithm, section),
            tolerance=tolerance,
        )


def correction_rows(name: str, case: Case, mismatch: Mapping[str, Any], tolerance: float) -> Iterator[Row]:
    """Every correction of a case, applied to its plain GRPO loss, and the mismatch metrics."""
    for key, section in mismatch.items():
        choice = correction_choice(key)
        if key == "metrics":
            yield from section_rows(f"{name}.{key}", section, lambda: _mismatch(case), tolerance=tolerance)
        elif choice is None:
            yield unknown(f"{name}.{key}", section)
        else:
            algorithm = PLAIN.replace(correction=choice)
            yield from section_rows(
                f"{name}.{key}",
                section,
                lambda algorithm=algorithm: _corrected(case, algorithm),
                tolerance=tolerance,
            )


def _corrected(case: Case, algorithm: Algorithm) -> Results:
    out = case.compute(algorithm)
    return {
        "weights": case.padded(out.metrics["correction"]),
        "loss": out.total,
        "grad": case.padded(out.grad),
    }


def _loss(case: Case, algorithm: Algorithm, section: Mapping[str, Any]) -> Results:
    out = case.compute(algorithm)
    results: dict[str, Any] = {
        "aggregation": _aggregation(algorithm, section.get("aggregation")),
        "loss": out.total,
        "grad": case.padded(out.grad),
        "per_token_loss": case.padded(out.per_token),
        "seq_ratio": case.per_row(bounded_exp(out.metrics["log_ratio"]), 1),
        "mean_log_old_over_new": case.per_row(case.row_mean(-out.metrics["log_moved"]), 0),
    }
    shares = {
        "frac_low": "clip_low",
        "frac_high": "clip_high",
        "frac_capped": "capped",
        "frac_masked": "masked",
    }
    results |= {key: out.metrics[m].mean() for key, m in shares.items() if m in out.metrics}
    if "clip_low" in out.metrics:
        clipped = out.metrics["clip_low"] + out.metrics["clip_high"]
        results["clip_frac"] = case.per_row(clipped, 0).mean()
    for choice in algorithm.correction:
        results |= {"keep": case.per_row(out.metrics["correction"], 1), "delta": choice.params["delta"]}
    return results


def _aggregation(algorithm: Algorithm, word: Any) -> str:
    """The file's word where Covey's aggregation is one that it covers, else Covey's own."""
    own = algorithm.aggregation.label
    return word if own in AGGREGATIONS.get(word, ()) else own


def _mismatch(case: Case) -> Results:
    log_rho = case.flat["logp_old"] - case.flat["logp_rollout"]
    metrics, size = mismatch_metrics(log_rho), log_rho.abs().mean()
    typical = case.row_mean(log_rho)
    return {
        "seq_ratio": case.per_row((typical * case.lengths[case.sequence]).exp(), 1),
        "geo_mean_ratio": case.per_row(typical.exp(), 1),
        "token_ratio_mean": metrics["mismatch_ratio_mean"],
        "token_ratio_min": metrics["mismatch_ratio_min"],
        "token_ratio_max": metrics["mismatch_ratio_max"],
        "ess_fraction": metrics["mismatch_ess"],
        "mean_abs_logp_diff": metrics["mismatch_abs"],
        "kl_rollout_to_train_k1": Sum(metrics["mismatch_k1"], size),
        "kl_rollout_to_train_k3": Sum(metrics["mismatch_k3"], size),
        "chi2_token": Sum(metrics["mismatch_chi2"], 1.0),
    }
