"""AdamW on fp32 masters: the rate of each step, the clip, and rounding once it is done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from covey.learn import Optimizer, Schedule
from covey.models import Policy


def with_gradients(policy: Policy) -> dict[str, torch.Tensor]:
    """A gradient for every master weight, of either sign."""
    generator = torch.Generator().manual_seed(0)
    for master in policy.master.values():
        master.grad = torch.randn(master.shape, generator=generator)
    return {name: master.grad.clone() for name, master in policy.master.items() if master.grad is not None}


def values(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: master.detach().clone() for name, master in policy.master.items()}


@pytest.mark.parametrize(
    ("warmup", "rates"),
    [
        (0, [8.0, 8.0, 8.0]),
        (1, [4.0, 8.0, 8.0]),
        # 8 × 1/4, 2/4, 3/4, 4/4: a first step of rate 0 would be a step thrown away
        (3, [2.0, 4.0, 6.0, 8.0, 8.0]),
    ],
)
def test_the_warm_up_is_linear(warmup: int, rates: list[float]) -> None:
    schedule = Schedule(8.0, warmup)
    assert [schedule.at(step) for step in range(len(rates))] == rates


def test_the_rate_follows_the_step_s_number(policy_of: Callable[..., Policy]) -> None:
    """Not a count of calls: a resumed run asks for step 7 first."""
    policy = policy_of()
    optimizer = Optimizer(policy, Schedule(1e-3, warmup_steps=9))
    with_gradients(policy)
    assert optimizer.step(7, optimizer.norm()) == pytest.approx(8e-4)
    assert optimizer.adam.param_groups[0]["lr"] == pytest.approx(8e-4)


def test_a_first_step_moves_every_weight_by_the_rate(policy_of: Callable[..., Policy]) -> None:
    """Adam's bias-corrected first step is rate × sign(gradient); decay takes rate × decay × weight."""
    policy = policy_of()
    optimizer = Optimizer(policy, Schedule(1e-3), weight_decay=0.1, max_grad_norm=0.0)
    before, gradients = values(policy), with_gradients(policy)
    optimizer.step(0, optimizer.norm())
    for name, master in policy.master.items():
        large = gradients[name].abs() > 1e-3  # beside these, Adam's ε of 1e-8 is nothing
        want = before[name] * (1 - 1e-3 * 0.1) - 1e-3 * gradients[name].sign()
        assert torch.allclose(master[large], want[large], atol=1e-6)
    assert optimizer.gradients() == {}
    assert policy.version == 1


def test_the_norm_is_over_all_gradients(policy_of: Callable[..., Policy]) -> None:
    policy = policy_of()
    optimizer = Optimizer(policy, Schedule(1e-3))
    assert optimizer.norm() == 0.0
    gradients = with_gradients(policy)
    want = torch.cat([g.flatten() for g in gradients.values()]).norm().item()
    assert optimizer.norm() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(("most", "clipped"), [(1.0, True), (1e9, False), (0.0, False)])
def test_gradients_are_clipped_to_the_norm(
    policy_of: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch, most: float, clipped: bool
) -> None:
    policy = policy_of()
    optimizer = Optimizer(policy, Schedule(1e-3), max_grad_norm=most)
    gradients, norm = with_gradients(policy), optimizer.norm()
    assert norm > 1
    seen: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(
        optimizer.adam, "step", lambda: seen.update((n, g.clone()) for n, g in optimizer.gradients().items())
    )
    optimizer.step(0, norm)
    for name, gradient in gradients.items():
        assert torch.allclose(seen[name], gradient / norm if clipped else gradient, rtol=1e-5)
    total = torch.cat([g.flatten() for g in seen.values()]).norm().item()
    assert total == pytest.approx(1.0 if clipped else norm, rel=1e-5)


def test_bf16_rounds_the_masters_once_a_step(policy_of: Callable[..., Policy]) -> None:
    policy = policy_of("bfloat16")
    optimizer = Optimizer(policy, Schedule(1e-3))
    for step in range(3):
        before = values(policy)
        with_gradients(policy)
        optimizer.step(step, optimizer.norm())
        for name, parameter in policy.parameters():
            assert parameter.dtype is torch.bfloat16
            assert policy.master[name].dtype is torch.float32
            assert not torch.equal(policy.master[name], before[name])
            assert torch.equal(parameter, policy.master[name].to(torch.bfloat16))


def test_steps_too_small_for_bf16_add_up(policy_of: Callable[..., Policy]) -> None:
    """Just below 1, bf16 keeps steps of 2⁻⁸ = 0.004: each step of 1e-4 would be lost."""
    policy = policy_of("bfloat16")
    optimizer = Optimizer(policy, Schedule(1e-4), max_grad_norm=0.0)
    name = next(n for n in policy.master if n.endswith("input_layernorm.weight"))  # starts at 1
    rounded = dict(policy.parameters())[name]
    seen = []
    for step in range(60):
        for master in policy.master.values():
            master.grad = torch.ones_like(master)
        optimizer.step(step, 0.0)
        seen.append(rounded[0].item())
    assert seen[:10] == [1.0] * 10
    # 60 steps of 1e-4 come to 0.994; the nearest bf16 is 1 - 2 × 2⁻⁸ = 0.9922 or 1 - 2⁻⁸ = 0.9961
    assert seen[-1] in (1 - 2 * 2**-8, 1 - 2**-8)
