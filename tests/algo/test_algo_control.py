"""The entropy bonus in the loss, and coefficients that follow what was measured."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from covey.algo import Algorithm, Choice, TokenBatch, control, preset, token_loss

BONUS = {"name": "bonus", "coefficient": 0.25}
KL = {"name": "k3", "coefficient": 0.1}


def test_the_bonus_comes_off_each_tokens_loss_whatever_a_correction_masks() -> None:
    plain = preset("modern").replace(correction=["veto"])
    logp = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    entropy = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    fixed = logp.detach()
    # the veto takes the second token's whole sequence out of the policy's term
    sampler = torch.tensor([-1.0, 30.0], dtype=torch.float64)
    batch = TokenBatch(
        logp, fixed, sampler, None, torch.ones(2).double(), torch.tensor([0, 1]), entropy=entropy
    )
    without = token_loss(plain, batch).loss
    loss = token_loss(plain.replace(entropy=BONUS), batch).loss
    assert without.tolist() == [-1.0, 0.0]
    assert loss.tolist() == [-1.0 - 0.125, -0.5]
    assert torch.autograd.grad(loss.sum(), entropy)[0].tolist() == [-0.25, -0.25]


def test_a_batch_without_entropy_is_refused() -> None:
    one = torch.zeros(1)
    batch = TokenBatch(one, one, one, None, one, torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="pays for entropy"):
        token_loss(preset("modern").replace(entropy=BONUS), batch)


def adaptive(**changes: Any) -> Algorithm:
    return preset("grpo").replace(
        kl=KL,
        kl_control={"name": "adaptive", "target": 2.0, "horizon": 100},
        entropy={"name": "bonus", "coefficient": 0.0},
        entropy_control={"name": "adaptive", "target": 1.0, "delta": 0.25},
        **changes,
    )


def test_controllers_go_by_the_metrics_of_the_steps_before() -> None:
    algorithm, held = adaptive(), control.first(adaptive())
    assert control.figures(held) == {"kl_coefficient": 0.1, "entropy_coefficient": 0.0}
    held = control.after(algorithm, held, {"kl_sequence": 9.0, "entropy": 0.5, "episodes_trained": 10.0})
    # 20 % at most, a tenth of the horizon: β · 1.02; below its target the bonus is 0.25 more
    assert control.figures(held) == {"kl_coefficient": pytest.approx(0.102), "entropy_coefficient": 0.25}
    held = control.after(algorithm, held, {"kl_sequence": 2.0, "entropy": 0.5, "episodes_trained": 10.0})
    assert control.figures(held) == {"kl_coefficient": pytest.approx(0.102), "entropy_coefficient": 0.5}
    held = control.after(algorithm, held, {"kl_sequence": -1.0, "entropy": 1.5, "episodes_trained": 10.0})
    # above its target nothing is paid, and the coefficient it will go on from is 0.25 less
    assert control.figures(held) == {
        "kl_coefficient": pytest.approx(0.102 * 0.98),
        "entropy_coefficient": 0.0,
    }
    held = control.after(algorithm, held, {"kl_sequence": 2.0, "entropy": 1.0, "episodes_trained": 10.0})
    assert control.figures(held)["entropy_coefficient"] == 0.5  # 0.25 + 0.25


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"entropy": math.nan, "kl_sequence": math.inf, "episodes_trained": 4.0},
        {"kl_sequence": 9.0},
        {"entropy": 10**400, "kl_sequence": 1.0, "episodes_trained": -(10**400)},
        {"entropy": None, "kl_sequence": "9", "episodes_trained": 4.0},
    ],
)
def test_what_was_not_measured_moves_nothing(metrics: dict[str, Any]) -> None:
    algorithm = adaptive()
    held = control.Held(0.3, 0.5, paused=True)
    assert control.after(algorithm, held, metrics) == held


def test_a_distance_that_the_kl_does_not_read_is_refused() -> None:
    def nothing(batch: TokenBatch, *, coefficient: float) -> torch.Tensor:
        return coefficient * batch.logp

    with pytest.raises(ValueError, match="which kl 'nothing' doesn't read"):
        preset("modern").replace(
            kl=Choice(nothing, {"coefficient": 0.1}), kl_control={"name": "adaptive", "target": 1.0}
        )


def test_the_loss_has_the_coefficients_of_its_step() -> None:
    algorithm = adaptive()
    now = control.applied(algorithm, control.Held(0.3, 0.5))
    assert now.kl == Choice("k3", {"coefficient": 0.3})
    assert now.entropy == Choice("bonus", {"coefficient": 0.5})
    paused = control.applied(algorithm, control.Held(0.3, 0.5, paused=True)).entropy
    assert paused == Choice("bonus", {"coefficient": 0.0})
    fixed = preset("grpo").replace(entropy=BONUS)
    assert control.applied(fixed, control.first(fixed)) is fixed


def test_algorithms_without_them_are_described_as_before() -> None:
    assert {"entropy", "kl_control", "entropy_control"}.isdisjoint(preset("grpo").describe())
    assert adaptive().describe()["kl_control"] == {"name": "adaptive", "target": 2.0, "horizon": 100}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kl": None, "kl_control": {"name": "adaptive", "target": 6.0}}, "there is none: choose kl too"),
        ({"entropy_control": "adaptive"}, "there is none: choose entropy too"),
        ({"kl": {**KL, "against": "sampler"}, "kl_control": {"name": "adaptive", "target": 6.0}}, "against"),
        ({"kl": {**KL, "coefficient": 0.0}, "kl_control": {"name": "adaptive", "target": 6.0}}, "from 0 it"),
        ({"kl": KL, "kl_control": {"name": "adaptive", "target": 0.0}}, "divides by its target"),
        ({"kl": KL, "kl_control": {"name": "adaptive", "target": 1.0, "horizon": 0}}, "divides by its hor"),
        ({"kl": KL, "kl_control": "adaptive"}, "needs its parameter 'target'"),
        ({"entropy": BONUS, "entropy_control": {"name": "adaptive", "high": 0.1}}, r"within \[0.0, 0.1\]"),
        ({"entropy": BONUS, "entropy_control": {"name": "adaptive", "delta": -1.0}}, "steps of delta"),
        ({"entropy": "bonus"}, "needs its parameter 'coefficient'"),
        ({"entropy": "bonuss"}, "did you mean 'bonus'"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        preset("modern").replace(**changes)
