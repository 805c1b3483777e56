"""What must hold for every preset and any batch: exact sums, exact zeros, no NaN."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.algo import (
    PRESETS,
    Algorithm,
    StepTokens,
    TokenBatch,
    advantages,
    preset,
    select_tokens,
    token_loss,
    token_weights,
)

EXACT = sorted(name for name in PRESETS if name != "unsloth")  # its local mean depends on the split
POLICY = sorted(set(PRESETS) - {"sft", "distill"})


@dataclass
class Batch:
    """A step's sequences with random log-probs; ``loss`` sums any of them in any order."""

    lengths: torch.Tensor
    group: torch.Tensor
    rewards: torch.Tensor
    tokens: dict[str, list[torch.Tensor]]  # name → one tensor a sequence

    @classmethod
    def drawn(cls, seed: int, prompts: int = 3, size: int = 3, spread: float = 0.3) -> Batch:
        g = torch.Generator().manual_seed(seed)
        rows = prompts * size
        lengths = torch.randint(1, 6, (rows,), generator=g)

        def noise(scale: float) -> torch.Tensor:
            return torch.randn(int(lengths.sum()), generator=g, dtype=torch.float64) * scale

        old = -noise(1.0).abs() - 0.05
        flat = {"logp": old + noise(spread), "old_logp": old, "sampler_logp": old + noise(spread)}
        flat["ref_logp"] = old + noise(spread)
        flat["entropy"], flat["draw"] = noise(1.0).abs(), noise(1.0).abs() % 1
        return cls(
            lengths,
            torch.arange(rows) // size,
            torch.randint(0, 2, (rows,), generator=g).double(),
            {name: list(values.split(lengths.tolist())) for name, values in flat.items()},
        )

    def loss(
        self, algorithm: Algorithm, parts: list[list[int]], **fixed: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The step's loss and its gradient for each sequence, summed over micro-batches ``parts``."""
        advantage = fixed.get("advantage", advantages(algorithm, self.rewards, self.group, self.lengths))
        weight = token_weights(algorithm, self.lengths, self.group, max_length=9)
        selected = self.selected(algorithm, advantage)
        leaves = [logp.clone().requires_grad_() for logp in self.tokens["logp"]]
        total = torch.zeros((), dtype=torch.float64)
        for part in parts:
            sequence = torch.repeat_interleave(torch.arange(len(part)), self.lengths[part])
            old, sampler, ref = (
                torch.cat([self.tokens[name][i] for i in part])
                for name in ("old_logp", "sampler_logp", "ref_logp")
            )
            batch = TokenBatch(
                torch.cat([leaves[i] for i in part]),
                old,
                sampler,
                ref,
                advantage[part][sequence],
                sequence,
                None if selected is None else torch.cat([selected[i] for i in part]),
            )
            total = total + (token_loss(algorithm, batch).loss * weight[part][sequence]).sum()
        return total.detach(), list(torch.autograd.grad(total, leaves))

    def selected(self, algorithm: Algorithm, advantage: torch.Tensor) -> list[torch.Tensor] | None:
        old, entropy, draw = (torch.cat(self.tokens[name]) for name in ("old_logp", "entropy", "draw"))
        per_token = advantage.repeat_interleave(self.lengths)
        chosen = select_tokens(algorithm, StepTokens(old, per_token, entropy, draw))
        return None if chosen is None else list(chosen.split(self.lengths.tolist()))


@settings(max_examples=10)
@given(seed=st.integers(0, 2**16), data=st.data())
@pytest.mark.parametrize("name", EXACT)
def test_the_gradient_does_not_depend_on_micro_batches_or_packing(
    name: str, seed: int, data: st.DataObject
) -> None:
    """Any order of sequences, cut anywhere, gives the same sum as all of them at once."""
    batch, rows = Batch.drawn(seed), range(9)
    order = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.sets(st.integers(1, 8))))
    parts = [list(order[a:b]) for a, b in zip([0, *cuts], [*cuts, 9], strict=True)]
    loss, grads = batch.loss(PRESETS[name], [list(rows)])
    split_loss, split_grads = batch.loss(PRESETS[name], parts)
    torch.testing.assert_close(split_loss, loss, rtol=1e-12, atol=1e-14)
    for split, whole in zip(split_grads, grads, strict=True):
        torch.testing.assert_close(split, whole, rtol=1e-11, atol=1e-14)


def test_the_local_mean_does_depend_on_it() -> None:
    """The mean of micro-batches' means is another number, which is why it is no default."""
    local = preset("unsloth")
    lengths, group = torch.tensor([1, 3]), torch.tensor([0, 0])
    together = token_weights(local, lengths, group, max_length=9, micro_batch=torch.tensor([0, 0]))
    apart = token_weights(local, lengths, group, max_length=9, micro_batch=torch.tensor([0, 1]))
    assert together.tolist() == [1 / 4, 1 / 4]
    assert apart.tolist() == [1 / 2, 1 / 6]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_no_ratio_is_too_large(name: str, dtype: torch.dtype) -> None:
    """Log-ratios of ±100 against every policy, with Â of each sign and 0: finite loss and gradient."""
    algorithm = PRESETS[name]
    for far in (100.0, -100.0):
        for advantage in (1.0, -1.0, 0.0):
            logp = torch.full((2,), -100.0, dtype=dtype, requires_grad=True)
            other = logp.detach() - far
            batch = TokenBatch(
                logp, other, other + far, other, torch.full((2,), advantage, dtype=dtype),
                torch.tensor([0, 0]), torch.tensor([1.0, 0.0], dtype=dtype),
            )  # fmt: skip
            out = token_loss(algorithm, batch)
            (grad,) = torch.autograd.grad(out.loss.sum(), logp)
            assert bool(out.loss.isfinite().all()), (far, advantage)
            assert bool(grad.isfinite().all()), (far, advantage)


@pytest.mark.parametrize(
    ("correction", "masked"),
    [
        ({"name": "token_mask", "high": 5.0}, [True, False]),
        ({"name": "sequence_mask", "high": 5.0}, [True, True]),
        ({"name": "veto", "high": 50.0}, [True, True]),
        ({"name": "off_policy_mask", "delta": 0.1}, [True, True]),
    ],
)
def test_a_masked_token_has_exactly_zero_gradient(correction: dict[str, object], masked: list[bool]) -> None:
    """Also where ρ or the ratio is as large as numbers go."""
    for far in (5.0, 100.0):
        logp = torch.tensor([-1.0, -1.0], requires_grad=True)
        old = torch.tensor([-1.0 + far, -1.0])
        batch = TokenBatch(
            logp, old, torch.tensor([-1.0 + 2 * far * (correction["name"] == "off_policy_mask"), -1.0]), None,
            torch.tensor([-1.0, -1.0]), torch.tensor([0, 0]),
        )  # fmt: skip
        algorithm = preset("modern").replace(
            surrogate={"name": "clip", "low": None, "high": None}, correction=correction
        )
        (grad,) = torch.autograd.grad(token_loss(algorithm, batch).loss.sum(), logp)
        assert [g == 0.0 for g in grad.tolist()] == masked


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"sft", "distill", "sapo", "kl-cov"}))
def test_on_policy_every_policy_loss_is_the_policy_gradient(name: str) -> None:
    """Ratio 1 exactly: each token's gradient is -Â·weight, nothing is clipped, and the loss is known."""
    algorithm = PRESETS[name].replace(kl=None, selection=None, correction=None)
    batch = Batch.drawn(7)
    for other in ("old_logp", "sampler_logp"):
        batch.tokens[other] = batch.tokens["logp"]
    advantage = advantages(algorithm, batch.rewards, batch.group, batch.lengths)
    weight = token_weights(
        algorithm, batch.lengths, batch.group, max_length=9, micro_batch=torch.zeros_like(batch.group)
    )
    if name == "unsloth":
        algorithm = algorithm.replace(aggregation="token_mean")
    _, grads = batch.loss(algorithm, [list(range(9))])
    for i, grad in enumerate(grads):
        torch.testing.assert_close(grad, torch.full_like(grad, -(advantage[i] * weight[i]).item()))


def test_on_policy_grpo_is_minus_advantage_over_batch_times_length() -> None:
    """-Â_i/(B L_i), loss -mean Â (about 0: a zero loss is normal), clip fraction 0."""
    batch, algorithm = Batch.drawn(3), preset("grpo").replace(kl=None)
    batch.tokens["old_logp"] = batch.tokens["logp"]
    advantage = advantages(algorithm, batch.rewards, batch.group, batch.lengths)
    loss, grads = batch.loss(algorithm, [list(range(9))])
    assert abs(loss.item() + advantage.mean().item()) < 1e-15
    for i, grad in enumerate(grads):
        expected = -advantage[i] / (9 * batch.lengths[i])
        torch.testing.assert_close(grad, expected.expand_as(grad), rtol=1e-12, atol=0)


def test_without_old_log_probs_the_ratio_is_one() -> None:
    logp = torch.tensor([-1.0, -2.0], requires_grad=True)
    batch = TokenBatch(logp, None, None, None, torch.tensor([1.0, -1.0]), torch.tensor([0, 1]))
    out = token_loss(preset("modern"), batch)
    assert out.loss.tolist() == [-1.0, 1.0]
    assert torch.autograd.grad(out.loss.sum(), logp)[0].tolist() == [-1.0, 1.0]
    assert out.metrics["clip_high"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", POLICY)
def test_groups_without_signal_have_no_gradient(name: str) -> None:
    batch = Batch.drawn(11)
    batch.rewards = torch.full((9,), 0.1, dtype=torch.float64)
    algorithm = PRESETS[name].replace(kl=None)
    if name == "unsloth":
        algorithm = algorithm.replace(aggregation="token_mean")
    if name == "kl-cov":
        algorithm = algorithm.replace(surrogate={"name": "kl_cov", "coefficient": 0.0})
    loss, grads = batch.loss(algorithm, [list(range(9))])
    assert loss == 0
    assert all(bool((grad == 0).all()) for grad in grads)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16))
@pytest.mark.parametrize("name", ["grpo", "v3.2"])
def test_the_kl_penalty_is_never_negative_and_nothing_at_equality(name: str, seed: int) -> None:
    algorithm, batch = PRESETS[name], Batch.drawn(seed)
    nothing = torch.zeros(9, dtype=torch.float64)
    loss, _ = batch.loss(algorithm, [list(range(9))], advantage=nothing)
    assert loss >= 0
    batch.tokens["ref_logp"] = batch.tokens["logp"]
    loss, grads = batch.loss(algorithm, [list(range(9))], advantage=nothing)
    assert loss == 0
    assert max(grad.abs().max().item() for grad in grads) == 0


def test_a_length_bias_is_what_tells_the_aggregations_apart() -> None:
    """Σ|gradient| of a wrong sequence of 1 token and one of 9: alike per sequence, or 9 times as much."""
    lengths, group = torch.tensor([1, 9]), torch.tensor([0, 0])
    by_sequence = token_weights(preset("grpo"), lengths, group, max_length=9) * lengths
    by_token = token_weights(preset("modern"), lengths, group, max_length=9) * lengths
    assert by_sequence.tolist() == [0.5, 0.5]
    assert math.isclose((by_token[1] / by_token[0]).item(), 9)
