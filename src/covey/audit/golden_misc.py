"""The ``misc`` rows of golden-vector files: shaping, credit, KL estimators, distributions, statistics.

Each section's function takes the section and returns Covey's value for every row that is a result;
the section's other keys must be inputs it names. Numbers are computed in the dtype asked for, except
the statistics, which have no tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any, TypeAlias

import torch
from torch import Tensor

from covey.algo import Choice, TokenBatch
from covey.algo.credit import gdpo, process_supervision, sum_then_normalise
from covey.algo.distribution import entropy, nucleus, token_logp
from covey.algo.kl import KL
from covey.algo.shaping import overlong_penalty
from covey.algo.surrogate import luffy
from covey.audit import golden_statistics as statistics
from covey.evals.intervals import pass_at_k

Section: TypeAlias = Mapping[str, Any]
Results: TypeAlias = dict[str, Any]


def _overlong(section: Section, dtype: torch.dtype) -> Results:
    bounds = {key: section[key] for key in ("max_length", "cache") if key in section}
    lengths = [length for length in section if length not in bounds]
    return {length: overlong_penalty(torch.tensor([int(length)]), **bounds)[0] for length in lengths}


def _process_supervision(section: Section, dtype: torch.dtype) -> Results:
    rows = list(zip(section["step_end_index_0based"], section["step_rewards"], strict=True))
    ends = torch.tensor([end for row, _ in rows for end in row])
    rewards = torch.tensor([reward for _, row in rows for reward in row], dtype=dtype)
    owner = torch.tensor([i for i, (row, _) in enumerate(rows) for _ in row])
    results = {}
    for name in section:
        if name.startswith("adv_ddof"):
            lengths = torch.tensor([len(row) for row in section[name]])
            tokens = process_supervision(
                rewards, ends, owner, torch.zeros(len(rows), dtype=torch.long), lengths, ddof=int(name[8:])
            )
            results[name] = [part.tolist() for part in tokens.split(lengths.tolist())]
    return results


def _gdpo(section: Section, dtype: torch.dtype) -> Results:
    rewards = torch.tensor(section["rewards"], dtype=dtype)
    weights = torch.tensor(section["weights"], dtype=dtype)
    group = torch.arange(len(rewards)) // section.get("G", 4)
    lengths = torch.ones_like(group)
    results: Results = {"sum_then_normalise": sum_then_normalise(rewards, group, lengths, weights)}
    for name in section:
        if found := re.fullmatch(r"gdpo_weights_([\dp_]+)", name):  # gdpo_weights_1_0p5: 1 and 0.5
            own = [float(text.replace("p", ".")) for text in found[1].split("_")]
            results[name] = gdpo(rewards, group, lengths, torch.tensor(own, dtype=dtype))
        elif found := re.fullmatch(r"gdpo_ddof(\d)_eps(\d+e_\d+)", name):
            eps = float(found[2].replace("_", "-"))
            results[name] = gdpo(rewards, group, lengths, weights, ddof=int(found[1]), eps=eps)
    return results


def _estimate(name: str, logp: Tensor, ref_logp: Tensor) -> Tensor:
    """One estimator, coefficient 1, on-policy; carries gradient to ``logp``."""
    batch = TokenBatch(logp, None, None, ref_logp, torch.ones_like(logp), torch.arange(len(logp)))
    return Choice(name, {"coefficient": 1.0}).resolve("kl", KL)(batch)


def _slope(name: str, logp: Tensor, ref_logp: Tensor) -> Tensor:
    logp = logp.clone().requires_grad_()
    return torch.autograd.grad(_estimate(name, logp, ref_logp).sum(), logp)[0]


def _kl_gradient(section: Section, dtype: torch.dtype) -> Results:
    gap = torch.tensor(section["pi_ref_over_pi"], dtype=dtype).log()
    logp = torch.zeros_like(gap)
    return {
        "k1_value": _estimate("k1", logp, gap),
        "k2_value": _estimate("k2", logp, gap),
        "k3_value": _estimate("k3", logp, gap),
        "dk3_dlogp_biased": _slope("k3", logp, gap),
        "d_r_k3_dlogp_unbiased": _slope("ratio_k3", logp, gap),
    }


def _kl_enumeration(section: Section, dtype: torch.dtype) -> Results:
    """Expectations over a whole vocabulary: of each estimator, and of its gradient."""
    logits = torch.tensor(section["pi"], dtype=dtype).log().requires_grad_()
    ref = torch.tensor(section["ref"], dtype=dtype).log()
    logp = logits.log_softmax(0)
    pi = logp.detach().exp()

    def gradient(value: Tensor) -> Tensor:
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    def expected(name: str) -> Tensor:
        return (pi * _estimate(name, logp, ref)).sum()

    reverse = (logp.exp() * (logp - ref)).sum()
    return {
        "reverse_kl": reverse.detach(),
        "E_k1": expected("k1").detach(),
        "E_k2": expected("k2").detach(),
        "E_k3": expected("k3").detach(),
        "grad_logits_reverse_kl": gradient(reverse),
        "grad_logits_forward_kl": gradient((ref.exp() * (ref - logp)).sum()),
        "grad_logits_k3_loss": gradient(expected("k3")),
        "grad_logits_k3_ratio": gradient(expected("ratio_k3")),
    }


def _sampling_mask(section: Section, dtype: torch.dtype) -> Results:
    old = torch.tensor([section["old_logits"]], dtype=dtype)
    new = torch.tensor([section["new_logits"]], dtype=dtype)
    token = torch.tensor([section["token"]])
    kept = nucleus(old, section["top_p"])
    full, masked = (
        (token_logp(old, token, kept=mask)[0], token_logp(new, token, kept=mask)[0])
        for mask in (torch.ones_like(kept), kept)
    )
    return {
        "kept_ids": kept[0].nonzero()[:, 0],
        "logp_old_full": full[0],
        "logp_new_full": full[1],
        "ratio_full": (full[1] - full[0]).exp(),
        "logp_old_masked": masked[0],
        "logp_new_masked": masked[1],
        "ratio_masked": (masked[1] - masked[0]).exp(),
        "ratio_if_only_old_masked": (full[1] - masked[0]).exp(),
    }


def _temperature(section: Section, dtype: torch.dtype) -> Results:
    logits, token = torch.tensor([section["logits"]], dtype=dtype), torch.tensor([section["token"]])
    cold = "logp_T" + str(section["T"]).replace(".", "p")
    return {
        "logp_T1": token_logp(logits, token)[0],
        cold: token_logp(logits, token, temperature=section["T"])[0],
    }


def _luffy(section: Section, dtype: torch.dtype, gamma: float) -> Results:
    logp = torch.tensor(section["pi"], dtype=dtype).log().requires_grad_()
    batch = TokenBatch(logp, None, None, None, -torch.ones_like(logp), torch.arange(len(logp)))
    f = luffy(batch, torch.zeros_like(logp), gamma=gamma).loss  # advantage -1 leaves f itself
    return {"f": f.detach(), "dfdlogp": torch.autograd.grad(f.sum(), logp)[0]}


def _pass_at_k(section: Section, dtype: torch.dtype) -> Results:
    results = {}
    for name, row in section.items():
        n, correct = (int(part[1:]) for part in name.split("_"))
        results[name] = {k: pass_at_k(n, correct, int(k)) for k in row}
    return results


def _avg_at_k(section: Section, dtype: torch.dtype) -> Results:
    correct = section["correct"]
    per_problem = [mean(row) for row in correct]
    return {
        f"avg_at_{len(correct[0])}": mean(per_problem),
        "per_problem": per_problem,
        "se_clustered_over_problems": statistics.clustered_error(per_problem),
        "se_naive_iid_WRONG": statistics.iid_error([value for row in correct for value in row]),
        "se_sampling_only": statistics.sampling_error(correct),
    }


def _wilson(section: Section, dtype: torch.dtype, percent: float) -> Results:
    counts = {name: [int(part) for part in name.split("/")] for name in section}
    return {name: list(statistics.wilson(*pair, level=percent / 100)) for name, pair in counts.items()}


def _cons_at_k(section: Section, dtype: torch.dtype) -> Results:
    leaders = [statistics.majority(votes) for votes in section["votes"]]
    gold = section["gold"]
    first = [names[0] if names else None for names in leaders]
    pairs = list(zip(leaders, gold, strict=True))
    return {
        "majority_first_seen": first,
        "cons_first_seen": mean(float(answer == right) for answer, right in zip(first, gold, strict=True)),
        "cons_tie_fractional": mean(names.count(right) / max(len(names), 1) for names, right in pairs),
    }


Evaluate: TypeAlias = Callable[..., Results]

_SECTIONS: dict[str, tuple[Evaluate, set[str]]] = {
    "overlong_soft_punishment": (_overlong, {"max_length", "cache"}),
    "process_supervision": (_process_supervision, {"step_end_index_0based", "step_rewards"}),
    "gdpo": (_gdpo, {"rewards", "weights", "G"}),
    "kl_gradient_on_policy": (_kl_gradient, {"pi_ref_over_pi"}),
    "kl_enumeration": (_kl_enumeration, {"pi", "ref"}),
    "keep_sampling_mask": (_sampling_mask, {"old_logits", "new_logits", "top_p", "token"}),
    "temperature": (_temperature, {"logits", "T", "token"}),
    "luffy_shaping_gamma#": (_luffy, {"pi"}),
    "pass_at_k": (_pass_at_k, set()),
    "avg_at_k": (_avg_at_k, {"correct"}),
    "wilson_#": (_wilson, set()),
    "cons_at_k": (_cons_at_k, {"votes", "gold"}),
}
"""What computes each section, and which of its keys are inputs; # stands for a number."""


def misc_section(name: str) -> tuple[Evaluate, list[float], set[str]] | None:
    """``evaluate(section, dtype, *numbers)``, the numbers in the name, and the section's input keys."""
    for pattern, (evaluate, inputs) in _SECTIONS.items():
        found = re.fullmatch(pattern.replace("#", r"(\d+(?:\.\d+)?)"), name)
        if found:
            return evaluate, [float(text) for text in found.groups()], inputs
    return None


def misc_entropy(misc: Section, dtype: torch.dtype) -> Tensor:
    """``entropy_of_old_logits_nats``: of the sampling-mask section's old logits."""
    return entropy(torch.tensor([misc["keep_sampling_mask"]["old_logits"]], dtype=dtype))[0]
