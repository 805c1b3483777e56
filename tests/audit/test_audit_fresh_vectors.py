"""A golden-vector file made here, from random inputs and the equations alone.

NumPy only, on padded arrays with masks, one loss as one number: nothing is shared with covey.algo
but the papers. Gradients are complex steps, f'(x) = Im f(x + ih)/h, which are exact to rounding;
what a stop-gradient covers is computed from the real part.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch

from covey.audit.conformance import check_file

Array: TypeAlias = Any  # a numpy array, real or complex
Term: TypeAlias = Callable[[Array], Array]

STEP = 1e-150


class Vectors:
    """One random ragged case; ``size`` sequences a group, one group of equal rewards."""

    def __init__(self, seed: int, prompts: int, size: int, longest: int) -> None:
        random = np.random.default_rng(seed)
        rows = prompts * size
        self.size, self.rows = size, rows
        self.lengths = random.integers(1, longest + 1, rows)
        self.mask = np.arange(longest) < self.lengths[:, None]
        self.max_length = longest + int(random.integers(1, 5))
        self.rewards = random.choice([-0.5, 0.0, 0.25, 1.0], rows)
        self.rewards[:size] = 0.1  # no power of two, so that means of equal rewards round
        self.old = np.log(random.uniform(0.05, 0.95, (rows, longest)))
        self.new, self.ref, self.rollout = (
            self.old + random.normal(0, spread, self.old.shape) for spread in (0.3, 0.3, 0.4)
        )

    def mean(self, x: Array) -> Array:
        """The mean of each sequence, as a column."""
        return (np.where(self.mask, x, 0).sum(1) / self.lengths)[:, None]

    def grouped(self, f: Callable[[Array], Array]) -> Array:
        return np.concatenate([f(r) * np.ones(self.size) for r in self.rewards.reshape(-1, self.size)])

    def advantages(self) -> dict[str, Array]:
        r, n = self.rewards, len(self.rewards)
        equal = self.grouped(lambda g: float(len(set(g)) == 1)) == 1
        centred = np.where(equal, 0, r - self.grouped(np.mean))
        std = {d: self.grouped(lambda g, d=d: np.std(g, ddof=d)) for d in (0, 1)}
        others = [np.delete(g, i) for g in r.reshape(-1, self.size) for i in range(self.size)]
        loo = np.array([x - o.mean() for x, o in zip(r, others, strict=True)]) * ~equal
        loo_std = np.array([np.std(o, ddof=1) + 1e-6 if len(set(o)) > 1 else 1 for o in others])
        tokens = np.repeat(centred, self.lengths)
        weighted = self.grouped_opo()
        mean = self.grouped(np.mean)
        return {
            "grpo_ddof1_eps1e_4_TRL": centred / (std[1] + 1e-4),
            "grpo_ddof1_eps1e_6_verl": centred / (std[1] + 1e-6),
            "grpo_ddof0_eps1e_4": centred / (std[0] + 1e-4),
            "dr_grpo_v32_mean_only": centred,
            "rloo": loo,
            "loo_mean_loo_std_eps1e_6_nemo": loo / loo_std,
            "lite_ppo_batch_reward_std_eps1e_4": centred / (np.std(r, ddof=1) + 1e-4),
            "scalerl_batch_adv_std_ddof0_eps1e_4": centred / (np.std(centred) + 1e-4),
            "maxrl_mean_eps1e_6": np.where(mean == 0, 0, centred / (mean + 1e-6)),
            "opo_length_weighted": np.where(equal, 0, r - weighted),
            "gpg": centred * n / np.count_nonzero(r),
            "reinforce_pp_seq_whiten_ddof0": (r - r.mean()) / (np.std(r) + 1e-8),
            "reinforce_pp_baseline_seq_ddof0": centred / (np.std(centred) + 1e-8),
            "reinforce_pp_baseline_seq_ddof1": centred / (np.std(centred, ddof=1) + 1e-8),
            "reinforce_pp_baseline_token_whiten_verl": (centred - tokens.mean())
            / np.sqrt(np.var(tokens, ddof=1) + 1e-8),
        }

    def grouped_opo(self) -> Array:
        pairs = zip(self.rewards.reshape(-1, self.size), self.lengths.reshape(-1, self.size), strict=True)
        return np.repeat([(r * n).sum() / n.sum() for r, n in pairs], self.size)

    def aggregate(self, x: Array, how: str) -> Array:
        x = np.where(self.mask, x, 0)
        if how in ("seq_mean_token_mean", "sequence"):
            return (x.sum(1) / self.lengths).mean()
        if how == "token_mean":
            return x.sum() / self.lengths.sum()
        if how == "prompt_mean_token_mean":
            tokens = self.lengths.reshape(-1, self.size).sum(1)
            return (x.sum(1).reshape(-1, self.size).sum(1) / tokens).mean()
        return x.sum() / self.rows / (self.max_length if how == "token_sum_const" else 1)

    def row(self, term: Term, how: str, **extra: Any) -> dict[str, Any]:
        """A loss row: value, gradient by complex steps, and the term itself where it is per token."""
        grad = np.zeros(self.mask.shape)
        for i, t in np.argwhere(self.mask):
            bumped = self.new.astype(complex)
            bumped[i, t] += 1j * STEP
            grad[i, t] = self.aggregate(term(bumped), how).imag / STEP
        value = term(self.new + 0j).real
        if how != "sequence":
            extra["per_token_loss"] = np.where(self.mask, value, 0)
        return {"aggregation": how, "loss": self.aggregate(value, how), "grad": grad, **extra}

    def clipped(self, a: Array, low: float, high: float, dual: float = np.inf, level: str = "token") -> Term:
        def term(logp: Array) -> Array:
            d = logp - self.old
            r = np.exp(self.mean(d) + 0 * d if level == "sequence" else d)
            kept = np.where(r.real > 1 + high, 1 + high, np.where(r.real < 1 - low, 1 - low, r))
            worse = np.where((r * a).real <= (kept * a).real, r * a, kept * a)
            bound = np.minimum(dual, 1e300) * a
            return -np.where((a < 0) & (bound > worse.real), bound, worse)

        return term


def shares(v: Vectors, a: Array, low: float, high: float) -> dict[str, float]:
    r = np.exp(v.new - v.old)
    at = {"frac_low": (a < 0) & (r < 1 - low), "frac_high": (a > 0) & (r > 1 + high)}
    return {name: hit[v.mask].mean() for name, hit in at.items()}


def k3(d: Array) -> Array:
    return np.exp(d) - d - 1


def weighted(v: Vectors, a: Array, weight: Array) -> Term:
    """A policy gradient with a fixed weight on each token."""
    return lambda logp: -weight * a * logp


def losses(v: Vectors) -> dict[str, Any]:
    adv = {name: value[:, None] for name, value in v.advantages().items()}
    a, mean, batch = (
        adv[n]
        for n in ("grpo_ddof1_eps1e_4_TRL", "dr_grpo_v32_mean_only", "scalerl_batch_adv_std_ddof0_eps1e_4")
    )
    r = np.exp(v.new - v.old)
    plain, dapo, r1 = v.clipped(a, 0.2, 0.2), v.clipped(a, 0.2, 0.28), v.clipped(a, 10, 10)
    moved = np.exp(v.new) - np.exp(v.old)
    masked = ((a > 0) & (moved > 0.15)) | ((a < 0) & (-moved > 0.15))
    pi, mu = np.exp(v.new), np.exp(v.old)
    with np.errstate(invalid="ignore", divide="ignore"):
        event = mu * np.log(mu / pi) + (1 - mu) * np.log((1 - mu) / np.maximum(1 - pi, 1e-9))
    far = (moved * np.sign(a) > 0) & (event > 0.05)
    wide = v.clipped(a, 0.3, 0.3)
    drift = v.mean(v.old - v.new)
    keep = np.where((a < 0) & (drift > 0.1), 0.0, 1.0)
    seq, tok = "seq_mean_token_mean", "token_mean"
    two, three = shares(v, a, 0.2, 0.2), shares(v, a, 0.2, 0.28)

    def with_kl(term: Term, beta: float, unbiased: bool = False) -> Term:
        return lambda x: term(x) + beta * k3(v.ref - x) * (np.exp(x - v.old) if unbiased else 1)

    def gate(x: Array) -> Array:
        tau = np.where(a > 0, 1.0, 1.05)
        return -4 / tau / (1 + np.exp(-tau * (np.exp(x - v.old) - 1))) * a

    def geometric(x: Array) -> Array:
        d = x - v.old
        d = np.where((a > 0) & (d.real > 0.4), 0.4, np.where((a < 0) & (d.real < -0.4), -0.4, d))
        return -np.exp(v.mean(d)) * a + 0 * x

    def sequences(low: float, high: float, **extra: Any) -> dict[str, Any]:
        s = np.exp(v.mean(v.new - v.old))
        hit = ((a < 0) & (s < 1 - low)) | ((a > 0) & (s > 1 + high))
        term = v.clipped(a, low, high, level="sequence")
        return v.row(term, "sequence", seq_ratio=s[:, 0], clip_frac=hit.mean(), **extra)

    luspo = v.row(v.clipped(a, 2e-3, 2.5e-3, level="sequence"), "sum")
    del luspo["per_token_loss"]
    s_gmpo = np.exp(
        v.mean(
            np.where(
                a > 0,
                np.minimum(v.new - v.old, 0.4),
                np.where(a < 0, np.maximum(v.new - v.old, -0.4), v.new - v.old),
            )
        )
    )
    return {
        "grpo_eps0.2_beta0": v.row(plain, seq, **two),
        "grpo_eps0.2_beta0.04_k3": v.row(with_kl(plain, 0.04), seq, **two),
        "grpo_eps0.2_beta0.04_k3_unbiased_v32": v.row(with_kl(plain, 0.04, True), seq, **two),
        "grpo_r1_eps10_beta0.001": v.row(with_kl(r1, 0.001), seq, **shares(v, a, 10, 10)),
        "dr_grpo_eps0.3": v.row(v.clipped(mean, 0.3, 0.3), "token_sum_const", **shares(v, mean, 0.3, 0.3)),
        "dapo_0.2_0.28_token_mean_batch": v.row(dapo, tok, **three),
        "dapo_0.2_0.28_prompt_mean_paper_eq8": v.row(dapo, "prompt_mean_token_mean", **three),
        "grpo_two_sided_delta1.5_intellect2": v.row(v.clipped(a, 0.2, 0.2, 1.5), seq, **two),
        "ppo_dual_clip_c1.4_verl_token_mean": v.row(v.clipped(a, 0.2, 0.28, 1.4), tok, **three),
        "cispo_cap1.5_token_mean": v.row(
            weighted(v, a, np.minimum(r, 1.5)), tok, frac_capped=(r > 1.5)[v.mask].mean()
        ),
        "scalerl_cispo_cap5_prompt_mean": v.row(
            weighted(v, batch, np.minimum(r, 5)), "prompt_mean_token_mean", frac_capped=(r > 5)[v.mask].mean()
        ),
        "sapo_1.0_1.05": v.row(gate, seq),
        "rloo_reinforce_seq_mean_token_sum": v.row(weighted(v, adv["rloo"], 1.0), "seq_mean_token_sum"),
        "dppo_binary_tv_0.15_token_mean": v.row(
            weighted(v, a, np.where(masked, 0, r)), tok, frac_masked=masked[v.mask].mean()
        ),
        "gspo_3e-4_4e-4": sequences(3e-4, 4e-4),
        "gspo_0.2_0.2": sequences(0.2, 0.2),
        # eq. 13: with one advantage a sequence, GSPO-token is GSPO in value and gradient
        "gspo_token_0.02_0.03": {
            key: value for key, value in sequences(0.02, 0.03).items() if key in ("loss", "grad", "clip_frac")
        },
        "dppo_binary_kl_0.05_token_mean": v.row(
            weighted(v, a, np.where(far, 0, r)), tok, frac_masked=far[v.mask].mean()
        ),
        "grpo_eps0.3_beta0.02_k1": v.row(lambda x: wide(x) + 0.02 * (x - v.ref), seq),
        "grpo_eps0.3_beta0.02_k2": v.row(lambda x: wide(x) + 0.01 * (x - v.ref) ** 2, seq),
        "luspo_2e-3_2.5e-3": {**luspo, "aggregation": "sequence"},
        "gmpo_0.4": v.row(geometric, "sequence", seq_ratio=s_gmpo[:, 0]),
        "grpo_opsm_delta0.1_v32": v.row(
            lambda x: keep * plain(x),
            seq,
            **two,
            keep=keep[:, 0],
            delta=0.1,
            mean_log_old_over_new=drift[:, 0],
        ),
    }


def mismatch(v: Vectors) -> dict[str, Any]:
    a = v.advantages()["grpo_ddof1_eps1e_4_TRL"][:, None]
    plain, d = v.clipped(a, 0.2, 0.2), v.old - v.rollout
    rho, geometric = np.exp(d), np.exp(v.mean(d))
    product = np.exp(v.mean(d) * v.lengths[:, None])
    weights = {
        "token_tis_cap1.5": np.minimum(rho, 1.5),
        "token_icepop_0.5_2": np.where((rho >= 0.5) & (rho <= 2), rho, 0),
        "seq_tis_cap1.2": np.minimum(product, 1.2) + 0 * rho,
        "seq_mis_cap1.2_TRL_default": np.where(product <= 1.2, product, 0) + 0 * rho,
        "geo_mask_0.9_1.1": ((geometric >= 0.9) & (geometric <= 1.1)) + 0 * rho,
    }
    out: dict[str, Any] = {}
    for name, w in weights.items():
        row = v.row(lambda x, w=w: w * plain(x), "seq_mean_token_mean")
        out[name] = {"weights": np.where(v.mask, w, 0), "loss": row["loss"], "grad": row["grad"]}
    flat, log = rho[v.mask], d[v.mask]
    out["metrics"] = {
        "seq_ratio": product[:, 0],
        "geo_mean_ratio": geometric[:, 0],
        "token_ratio_mean": flat.mean(),
        "token_ratio_max": flat.max(),
        "token_ratio_min": flat.min(),
        "ess_fraction": flat.sum() ** 2 / (flat**2).sum() / flat.size,
        "mean_abs_logp_diff": np.abs(log).mean(),
        "kl_rollout_to_train_k1": -log.mean(),
        "kl_rollout_to_train_k3": k3(log).mean(),
        "chi2_token": (flat**2).mean() - 1,
    }
    return out


def micro_batches(v: Vectors) -> dict[str, Any]:
    a = v.advantages()["grpo_ddof1_eps1e_4_TRL"]
    term = np.where(v.mask, v.clipped(a[:, None], 0.2, 0.28)(v.new + 0j).real, 0).sum(1)
    parts = np.array_split(np.arange(v.rows), 3)
    live = np.repeat([len(set(g)) > 1 for g in v.rewards.reshape(-1, v.size)], v.size)
    each = [term[p].sum() / v.lengths.sum() for p in parts]
    return {
        "micro_batches": [f"rows {p[0]}-{p[-1]}" for p in parts],
        "tokens_per_micro": [int(v.lengths[p].sum()) for p in parts],
        "dapo_token_mean_full": term.sum() / v.lengths.sum(),
        "dapo_micro_contributions": each,
        "dapo_sum_of_contributions": sum(each),
        "dapo_naive_mean_of_micro_means": np.mean([term[p].sum() / v.lengths[p].sum() for p in parts]),
        "dapo_extra_division_by_gas": term.sum() / v.lengths.sum() / 3,
        "grpo_seq_mean_full": (term / v.lengths).mean(),
        "dapo_zero_std_group_dropped": term[live].sum() / v.lengths[live].sum(),
        "grpo_zero_std_group_dropped": (term / v.lengths)[live].mean(),
    }


def case(v: Vectors) -> dict[str, Any]:
    log = (v.ref - v.new)[v.mask]
    return {
        "inputs": {
            "G": v.size,
            "rewards": v.rewards,
            "mask": v.mask.astype(float),
            "max_completion_length": v.max_length,
            "logp_old": v.old,  # padding holds numbers like any other: only the mask may tell
            "logp_new": v.new,
            "logp_ref": v.ref,
            "logp_rollout": v.rollout,
        },
        "advantages": v.advantages(),
        "zero_std_group_fraction": np.mean([len(set(g)) == 1 for g in v.rewards.reshape(-1, v.size)]),
        "k_estimators_token_mean": {"k1": -log.mean(), "k2": (log**2).mean() / 2, "k3": k3(log).mean()},
        "losses": losses(v),
        "mismatch": mismatch(v),
        "microbatch": micro_batches(v),
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_vectors_made_from_random_inputs_are_met(tmp_path: Path, seed: int, dtype: torch.dtype) -> None:
    path = tmp_path / "fresh.json"
    made = {f"case_{seed}": case(Vectors(seed, prompts=3, size=2 + seed, longest=3 + seed))}
    path.write_text(json.dumps(made, default=lambda x: x.tolist()))
    rows = check_file(path, dtype)
    assert [(row.name, row.error) for row in rows if not row.ok] == []
    assert len(rows) > 140
