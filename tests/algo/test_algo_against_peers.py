"""Where TRL 1.16 or verl 0.9 is installed: presets of their names, and their forms of the papers',
against their own code, value and gradient, on ragged random batches. Skipped where they are not.

`docs/algorithms.md` lists where a library's own code and paper part.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from covey.algo import Algorithm, TokenBatch, advantages, preset, token_loss, token_weights

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, at import


def peer(name: str, version: str) -> None:
    """Skip the test unless that version of the library is there: another may compute otherwise."""
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    if not found.startswith(version):
        pytest.skip(f"{name} is {found}, not {version}")


@dataclass
class Ragged:
    """Padded [9, 6] tensors as the libraries take them; ``mask`` is 1 on the chosen tokens."""

    mask: torch.Tensor
    rewards: torch.Tensor
    group: torch.Tensor
    old: torch.Tensor
    sampler: torch.Tensor
    ref: torch.Tensor
    logp: torch.Tensor

    @classmethod
    def drawn(cls, seed: int) -> Ragged:
        g = torch.Generator().manual_seed(seed)
        lengths = torch.randint(1, 7, (9,), generator=g)
        old, *moves = (torch.randn(9, 6, generator=g, dtype=torch.float64) for _ in range(4))
        old = -old.abs() - 0.05
        return cls(
            (torch.arange(6) < lengths[:, None]).double(),
            torch.rand(9, generator=g, dtype=torch.float64).round(decimals=1),
            torch.arange(9) // 3,
            old,
            *(old + 0.3 * move for move in moves),
        )

    def ours(self, algorithm: Algorithm) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Advantages, loss, and the gradient in their layout."""
        chosen, lengths = self.mask.bool(), self.mask.sum(1).long()
        gain = advantages(algorithm, self.rewards, self.group, lengths)
        weight = token_weights(algorithm, lengths, self.group, max_length=8)
        sequence = torch.repeat_interleave(torch.arange(9), lengths)
        logp = self.logp.clone().requires_grad_()
        batch = TokenBatch(
            logp[chosen], self.old[chosen], self.sampler[chosen], self.ref[chosen], gain[sequence], sequence
        )
        loss = (token_loss(algorithm, batch).loss * weight[sequence]).sum()
        return gain, loss.detach(), torch.autograd.grad(loss, logp)[0]


def trl_loss(batch: Ragged, gain: torch.Tensor, options: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """TRL's ``_compute_loss`` on a stand-in for its trainer: one process, one accumulation step."""
    trainer = importlib.import_module("trl").GRPOTrainer
    logp = batch.logp.clone().requires_grad_()
    beta = options.get("beta", 0.0)
    low = options.get("epsilon", 0.2)
    args = SimpleNamespace(
        delta=options.get("delta"),
        use_bias_correction_kl=options.get("use_bias_correction_kl", True),
        steps_per_generation=1,
        sapo_temperature_pos=1.0,
        sapo_temperature_neg=1.05,
        vespo_k_pos=2.0,
        vespo_lambda_pos=3.0,
        vespo_k_neg=3.0,
        vespo_lambda_neg=2.0,
    )
    log_rho = (batch.old - batch.sampler) * batch.mask
    product = log_rho.sum(1, keepdim=True).exp()
    masked = options.get("vllm", False)
    self = SimpleNamespace(
        args=args,
        beta=beta,
        epsilon_low=low,
        epsilon_high=options.get("epsilon_high", low),
        loss_type=options.get("loss_type", "dapo"),
        importance_sampling_level=options.get("level", "token"),
        off_policy_mask_threshold=options.get("off_policy_mask_threshold"),
        get_off_policy_mask=trainer.get_off_policy_mask,
        get_gamma_weights=trainer.get_gamma_weights,
        top_entropy_quantile=1.0,
        use_vllm=masked,
        vllm_importance_sampling_correction=masked,
        max_completion_length=8,
        current_gradient_accumulation_steps=1,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        _metrics={"train": _AnyList()},
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, gather_for_metrics=lambda x: x
        ),
        _get_per_token_logps_and_entropies=lambda *a, **k: (logp, torch.zeros_like(logp), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(9, 1).long(),
        "prompt_mask": torch.ones(9, 1).long(),
        "completion_ids": torch.zeros(9, 6).long(),
        "completion_mask": batch.mask,
        "advantages": gain,
        "old_per_token_logps": batch.old,
        "sampling_per_token_logps": batch.sampler,
        "ref_per_token_logps": batch.ref,
        "num_items_in_batch": batch.mask.sum(),
        "importance_sampling_ratio": torch.where(product <= 3, product, 0.0),
    }
    if self.loss_type == "vespo":
        del inputs["importance_sampling_ratio"]
    loss = trainer._compute_loss(self, None, inputs)
    return loss.detach(), torch.autograd.grad(loss, logp)[0]


class _AnyList(dict[str, list[float]]):
    def __missing__(self, key: str) -> list[float]:
        return self.setdefault(key, [])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("trl-1.16", {"vllm": True}),
        ("grpo", {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False}),
        ("dr-grpo", {"loss_type": "dr_grpo"}),
        ("gspo", {"loss_type": "grpo", "level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}),
        ("luspo", {"loss_type": "luspo", "level": "sequence", "epsilon": 2e-3, "epsilon_high": 2.5e-3}),
        ("cispo", {"loss_type": "cispo", "epsilon_high": 5.0}),
        ("sapo", {"loss_type": "sapo"}),
        ("vespo", {"loss_type": "vespo"}),
        ("intellect-2", {"loss_type": "grpo", "delta": 4.0}),
        ("lite-ppo", {}),
        ("modern", {"epsilon_high": 0.28}),
        ("v3.2", {"loss_type": "grpo", "beta": 0.001, "off_policy_mask_threshold": 0.5}),
    ],
)
def test_trl_computes_the_same(name: str, options: dict[str, Any], seed: int) -> None:
    peer("trl", "1.16.")
    batch = Ragged.drawn(seed)
    gain, loss, grad = batch.ours(preset(name))
    their_loss, their_grad = trl_loss(batch, gain, options)
    single = name == "sapo"  # its temperatures are float32 there
    torch.testing.assert_close(loss, their_loss, rtol=1e-5 if single else 1e-12, atol=1e-15)
    torch.testing.assert_close(grad, their_grad, rtol=1e-5 if single else 1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("name", "change", "function", "options"),
    [
        ("verl-0.9", {}, "vanilla", {}),
        ("sapo", {}, "sapo", {}),
        ("gspo", {}, "gspo", {"low": 3e-4, "high": 4e-4, "mode": "seq-mean-token-mean"}),
        ("gmpo", {}, "geo_mean", {"low": 0.4, "high": 0.4}),
        ("dppo", {"ratio": "token"}, "dppo_tv", {"low": 0.15, "high": 0.15, "c": 1e9}),
        (
            "dppo",
            {"ratio": "token", "surrogate": {"name": "dppo_kl", "threshold": 0.05}},
            "dppo_kl",
            {"low": 0.05, "high": 0.05, "c": 1e9},
        ),
        (
            "cispo",
            {"surrogate": {"name": "cispo", "cap": 1.2, "floor": 0.8}},
            "cispo",
            {"low": 0.2, "high": 0.2},
        ),
        ("gpg", {}, "gpg", {}),
    ],
)
def test_verl_computes_the_same(
    name: str, change: dict[str, Any], function: str, options: dict[str, Any], seed: int
) -> None:
    peer("verl", "0.9.")
    core = importlib.import_module("verl.trainer.ppo.core_algos")
    actor = importlib.import_module("verl.workers.config").ActorConfig
    config = actor(
        strategy="fsdp",
        rollout_n=3,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=options.get("low", 0.2),
        clip_ratio_high=options.get("high", 0.2),
        clip_ratio_c=options.get("c", 3.0),
    )
    batch = Ragged.drawn(seed)
    gain, loss, grad = batch.ours(preset(name).replace(**change))
    logp = batch.logp.clone().requires_grad_()
    mode = options.get("mode", "token-mean")
    their_loss, _ = getattr(core, f"compute_policy_loss_{function}")(
        batch.old, logp, gain[:, None].expand(-1, 6), batch.mask, mode, config
    )
    # verl adds 1e-8 to a sequence's length and to 1 - π, and its SAPO temperatures are float32
    rtol = 1e-5 if function == "sapo" else 1e-7
    torch.testing.assert_close(loss, their_loss.detach(), rtol=rtol, atol=1e-8)
    torch.testing.assert_close(grad, torch.autograd.grad(their_loss, logp)[0], rtol=rtol, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("verl-0.9", "grpo"),
        ("rloo", "rloo"),
        ("opo", "opo"),
        ("gpg", "gpg"),
        ("verl-tokens", "reinforce_plus_plus_baseline"),
    ],
)
def test_verl_takes_the_same_advantages(name: str, function: str) -> None:
    peer("verl", "0.9.")
    core = importlib.import_module("verl.trainer.ppo.core_algos")
    tokens = preset("modern").replace(advantage={"name": "centre_whiten", "over": "tokens"})
    algorithm = tokens if name == "verl-tokens" else preset(name)
    batch = Ragged.drawn(3)
    gain, _, _ = batch.ours(algorithm.replace(kl=None))
    at_end = torch.nn.functional.one_hot(batch.mask.sum(1).long() - 1, 6) * batch.rewards[:, None]
    theirs, _ = getattr(core, f"compute_{function}_outcome_advantage")(
        at_end, batch.mask, batch.group.numpy(), config=SimpleNamespace(get=lambda *_: None)
    )
    torch.testing.assert_close(gain[:, None] * batch.mask, theirs, rtol=1e-6, atol=1e-9)
