"""Surrogates, ratios, KL and corrections on single tokens, with the numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch

from covey.algo import Algorithm, Choice, StepTokens, TokenBatch, reward_penalty, select_tokens, token_loss
from covey.algo.diagnostics import summary
from covey.algo.entropy import adaptive_bonus
from covey.algo.kl import adaptive_coefficient

LN2 = math.log(2)


def batch(
    log_ratio: list[float],
    advantage: list[float],
    *,
    logp: float = -1.0,
    mismatch: float = 0.0,
    reference: float = 0.0,
    sequence: list[int] | None = None,
    selected: list[float] | None = None,
) -> TokenBatch:
    """Tokens of one policy log-prob that moved by ``log_ratio``; ``reference`` is log π_ref/π_θ."""
    moved = torch.tensor(log_ratio, dtype=torch.float64)
    now = torch.full_like(moved, logp).requires_grad_()
    old = now.detach() - moved
    return TokenBatch(
        logp=now,
        old_logp=old,
        sampler_logp=old - mismatch,
        ref_logp=now.detach() + reference,
        advantage=torch.tensor(advantage, dtype=torch.float64),
        sequence=torch.tensor(sequence or [0] * len(log_ratio)),
        selected=None if selected is None else torch.tensor(selected, dtype=torch.float64),
    )


def evaluated(
    tokens: TokenBatch, surrogate: str = "clip", **choices: object
) -> tuple[list[float], list[float]]:
    """Each token's loss, and its gradient with every weight 1."""
    params = choices.pop("params", {})
    algorithm = Algorithm(Choice("mean"), Choice("clip"), Choice("token_sum"))
    algorithm = algorithm.replace(surrogate={"name": surrogate, **params}, **choices)  # type: ignore[dict-item]
    out = token_loss(algorithm, tokens)
    (grad,) = torch.autograd.grad(out.loss.sum(), tokens.logp)
    return out.loss.tolist(), grad.tolist()


@pytest.mark.parametrize(
    ("ratio", "advantage", "params", "loss", "grad"),
    [
        (1.25, 1.0, {"high": 0.5}, -1.25, -1.25),  # inside: -r Â, and d r/d logp = r
        (2.0, 1.0, {"high": 0.28}, -1.28, 0.0),
        (2.0, -1.0, {"high": 0.28}, 2.0, 2.0),  # the minimum leaves this side open
        (2.0, -1.0, {"high": 0.28, "dual": 1.5}, 1.5, 0.0),
        (0.5, -1.0, {"low": 0.2}, 0.8, 0.0),
        (0.5, 1.0, {"low": 0.2}, -0.5, -0.5),
        (9.0, 1.0, {"low": None, "high": None}, -9.0, -9.0),
    ],
)
def test_clip(ratio: float, advantage: float, params: dict[str, object], loss: float, grad: float) -> None:
    got = evaluated(batch([math.log(ratio)], [advantage]), params=params)
    assert got == (pytest.approx([loss]), pytest.approx([grad]))


@pytest.mark.parametrize(
    ("surrogate", "params", "ratio", "advantage", "loss", "grad"),
    [
        ("cispo", {"cap": 1.5}, 2.0, 1.0, 1.5, -1.5),  # -1.5 · 1 · logp, logp = -1
        ("cispo", {"cap": 5.0, "floor": 0.8}, 0.5, -1.0, -0.8, 0.8),
        ("reinforce", {}, 2.0, 3.0, 3.0, -3.0),
        ("nll", {}, 2.0, 3.0, 1.0, -1.0),
        ("sapo", {}, 1.0, 2.0, -4.0, -2.0),  # gate 4 σ(0) = 2, slope 1 at r = 1
        ("sapo", {"negative": 2.0}, 1.0, -1.0, 1.0, 1.0),  # gate (4/2)/2 = 1
        ("luffy", {"gamma": 0.0}, 2.0, 3.0, -3.0, 0.0),  # π/(π + 0) = 1 whatever π
        ("dppo_tv", {"threshold": 0.15}, 2.0, 1.0, 0.0, 0.0),  # .368 - .184 > .15
        ("dppo_tv", {"threshold": 0.2}, 2.0, 1.0, 2.0, -2.0),
        ("dppo_tv", {"threshold": 0.15}, 2.0, -1.0, -2.0, 2.0),  # moved, but not adversely
        ("dppo_kl", {"threshold": 0.07}, 2.0, 1.0, 0.0, 0.0),  # .184 ln .5 + .816 ln(.816/.632) = .0811
        ("dppo_kl", {"threshold": 0.09}, 2.0, 1.0, 2.0, -2.0),
    ],
)
def test_surrogates(
    surrogate: str, params: dict[str, object], ratio: float, advantage: float, loss: float, grad: float
) -> None:
    got = evaluated(batch([math.log(ratio)], [advantage]), surrogate, params=params)
    assert got == (pytest.approx([loss]), pytest.approx([grad]))


def test_vespo_weighs_by_the_sequences_product() -> None:
    # W = 2 · 1 = 2; Â > 0: 2² e^{3(1-2)} = 4 e^-3; Â < 0 in the second sequence: W = 1, φ = 1
    tokens = batch([LN2, 0.0, 0.0], [1.0, 1.0, -1.0], sequence=[0, 0, 1])
    loss, grad = evaluated(tokens, "vespo", ratio="sequence_product")
    phi = 4 * math.exp(-3)
    assert loss == pytest.approx([phi, phi, -1.0])
    assert grad == pytest.approx([-phi, -phi, 1.0])


def test_gspo_has_one_ratio_a_sequence_and_gspo_token_the_same_value_and_gradient() -> None:
    for choices in ({"ratio": "sequence"}, {"ratio": "sequence_token"}):
        tokens = batch([2 * LN2, 0.0, 0.0], [1.0, 1.0, -1.0], sequence=[0, 0, 1])
        loss, grad = evaluated(tokens, params={"high": 2.0}, **choices)
        assert loss == pytest.approx([-2.0, -2.0, 1.0])  # √(4 · 1) = 2
        assert grad == pytest.approx([-2.0, -2.0, 1.0])  # each of two terms gives -2/2 to each of two tokens


def test_gmpo_clips_each_token_and_then_takes_the_geometric_mean() -> None:
    tokens = batch([1.0, 0.2], [1.0, 1.0])
    loss, grad = evaluated(tokens, "gmpo")
    mean = math.exp((0.4 + 0.2) / 2)
    assert loss == pytest.approx([-mean, -mean])
    assert grad == pytest.approx([0.0, -mean])  # the clipped token passes none on


def test_kl_cov_penalises_the_selected_tokens_alone() -> None:
    tokens = batch([LN2, LN2], [0.0, 0.0], selected=[1.0, 0.0])
    loss, _ = evaluated(tokens, "kl_cov", params={"coefficient": 3.0}, selection="top_covariance")
    assert loss == pytest.approx([3 * LN2, 0.0])


def test_reverse_kl_pulls_towards_the_teacher() -> None:
    loss, grad = evaluated(batch([0.0], [7.0], reference=-0.5), "reverse_kl", advantage="none")
    assert (loss, grad) == ([0.5], [0.5])  # the teacher finds the token e^-0.5 times as likely


@pytest.mark.parametrize(
    ("name", "loss", "grad"),
    [
        ("k1", -LN2, 1.0),
        ("k2", LN2**2 / 2, -LN2),  # d = ln 2
        ("k3", 1 - LN2, -1.0),  # 2 - ln 2 - 1; 1 - e^d
        ("ratio_k3", 1 - LN2, -LN2),  # r (k3) + 1 - e^d: log π/π_ref, the reverse KL's score
    ],
)
def test_kl_estimators_on_policy(name: str, loss: float, grad: float) -> None:
    tokens = batch([0.0], [0.0], reference=LN2)
    got = evaluated(tokens, kl={"name": name, "coefficient": 1.0})
    assert got == (pytest.approx([loss]), pytest.approx([grad]))


def test_a_penalty_in_the_reward_is_a_sum_over_the_sequence() -> None:
    algorithm = Algorithm(
        Choice("mean"),
        Choice("clip"),
        Choice("token_mean"),
        kl=Choice("k1", {"coefficient": 0.5}),
        kl_in="reward",
    )
    tokens = batch([0.0] * 3, [1.0] * 3, reference=-0.2, sequence=[0, 0, 1])
    assert reward_penalty(algorithm, tokens).tolist() == pytest.approx([0.2, 0.1])
    assert token_loss(algorithm, tokens).loss.tolist() == [-1.0] * 3  # and none in the loss
    none = reward_penalty(algorithm.replace(kl=None), tokens)
    assert none.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("correction", "weights"),
    [
        ({"name": "token_truncate", "cap": 2.0}, [2.0, 0.5, 1.0]),  # ρ = 4, ½ | 1
        ({"name": "token_mask", "low": 0.6, "high": 5.0}, [4.0, 0.0, 1.0]),
        ({"name": "sequence_truncate", "cap": 1.5}, [1.5, 1.5, 1.0]),  # Π = 2
        ({"name": "sequence_mask", "high": 1.5}, [0.0, 0.0, 1.0]),
        ({"name": "sequence_mask", "high": 3.0}, [2.0, 2.0, 1.0]),
        ({"name": "geometric_mask", "low": 0.9, "high": 1.5}, [1.0, 1.0, 1.0]),  # √2
        ({"name": "geometric_mask", "low": 0.9, "high": 1.4}, [0.0, 0.0, 1.0]),
        ({"name": "veto", "high": 3.0}, [0.0, 0.0, 1.0]),
        (["token_truncate", {"name": "veto", "high": 5.0}], [2.0, 0.5, 1.0]),
    ],
)
def test_corrections(correction: object, weights: list[float]) -> None:
    rho = torch.tensor([4.0, 0.5, 1.0], dtype=torch.float64).log()
    plain = batch([0.0] * 3, [1.0] * 3, sequence=[0, 0, 1])
    old = plain.anchor("learner")
    tokens = TokenBatch(plain.logp, old, old - rho, None, plain.advantage, plain.sequence)
    loss, grad = evaluated(tokens, correction=correction)
    assert [-x for x in loss] == pytest.approx(weights)
    assert [-x for x in grad] == pytest.approx(weights)


def test_the_off_policy_mask_drops_bad_sequences_that_drifted_and_keeps_their_kl() -> None:
    # log π_old/π_θ = 0.3: masked where Â < 0 alone, and where 0.3 > δ alone
    tokens = batch([-0.3] * 4, [-1.0, -1.0, 1.0, -1.0], sequence=[0, 0, 1, 2], reference=LN2)
    correction = {"name": "off_policy_mask", "delta": 0.2, "against": "learner"}
    loss, grad = evaluated(tokens, correction=correction, params={"low": None})
    ratio = math.exp(-0.3)
    assert loss == pytest.approx([0.0, 0.0, -ratio, 0.0])
    assert grad == pytest.approx([0.0, 0.0, -ratio, 0.0])
    with_kl, _ = evaluated(tokens, correction=correction, kl={"name": "k3", "coefficient": 1.0})
    assert with_kl[0] == pytest.approx(1 - LN2)
    kept, _ = evaluated(tokens, correction={**correction, "delta": 0.4}, params={"low": None})
    assert kept == pytest.approx([ratio, ratio, -ratio, ratio])


def test_bypass_takes_the_sampler_as_the_old_policy() -> None:
    loss, _ = evaluated(
        batch([LN2], [1.0], mismatch=LN2),
        ratio={"name": "token", "against": "sampler"},
        params={"high": None},
    )
    assert loss == pytest.approx([-4.0])  # 2 (moved) · 2 (mismatch)


def test_selections_look_at_the_whole_step() -> None:
    algorithm = Algorithm(Choice("mean"), Choice("clip"), Choice("token_mean"))
    logp = torch.tensor([-3.0, -1.0, -1.0, -3.0])
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])  # covariance: -1, 1, -1, 1
    tokens = StepTokens(
        logp, advantage, entropy=torch.tensor([0.1, 2.0, 0.3, 1.0]), draw=torch.tensor([0.0, 0.9, 0.2, 0.5])
    )

    def chosen(selection: dict[str, object], correction: str) -> list[float]:
        got = select_tokens(algorithm.replace(selection=selection, correction=correction), tokens)
        assert got is not None
        return got.tolist()

    assert chosen({"name": "top_entropy", "fraction": 0.5}, "only_selected") == [0, 1, 0, 1]
    assert chosen({"name": "top_covariance", "fraction": 0.3}, "drop_selected") == [0, 1, 0, 0]
    band = {"name": "covariance_band", "low": 0.5, "high": 2.0}
    assert chosen({**band, "fraction": 0.25}, "drop_selected") == [0, 0, 0, 1]  # the smaller draw of two
    assert chosen({**band, "fraction": 1.0}, "drop_selected") == [0, 1, 0, 1]  # candidates alone
    assert select_tokens(algorithm, tokens) is None


def test_only_selected_and_drop_selected_are_each_others_opposite() -> None:
    for correction, kept in (("only_selected", [1.0, 0.0]), ("drop_selected", [0.0, 1.0])):
        tokens = batch([0.0, 0.0], [1.0, 1.0], selected=[1.0, 0.0])
        loss, grad = evaluated(tokens, selection="top_entropy", correction=correction)
        assert [-x for x in loss] == kept
        assert [-x for x in grad] == kept


def test_the_entropy_bonus_follows_its_target() -> None:
    assert adaptive_bonus(0.01, 0.1) == (0.015, True)  # below 0.2: 0.005 more
    assert adaptive_bonus(0.003, 0.5) == (0.0, False)  # above: less, but not below 0, and not paid
    assert adaptive_bonus(0.02, 0.5) == (0.015, False)
    assert adaptive_bonus(0.999, 0.2) == (1.0, True)


def test_the_kl_coefficient_follows_its_target() -> None:
    def next_one(observed: float) -> float:
        return adaptive_coefficient(0.1, observed, 1000, target=6.0, horizon=10_000)

    assert next_one(6.0) == 0.1
    assert next_one(6.6) == pytest.approx(0.101)  # 10 % above, a tenth of the horizon
    assert next_one(60.0) == pytest.approx(0.102)  # at most 20 %
    assert next_one(0.0) == pytest.approx(0.098)


def test_metrics_of_micro_batches_are_those_of_the_whole() -> None:
    algorithm = Algorithm(Choice("mean"), Choice("clip", {"high": 0.28}), Choice("token_mean"))
    tokens = batch([LN2, 0.0, -LN2], [1.0, 1.0, -1.0], mismatch=-LN2, reference=LN2, sequence=[0, 1, 2])
    whole = summary([token_loss(algorithm, tokens).metrics])
    fields = ("logp", "old_logp", "sampler_logp", "ref_logp", "advantage")
    parts = [
        TokenBatch(
            **{field: getattr(tokens, field)[i : i + 1] for field in fields}, sequence=torch.tensor([0])
        )
        for i in range(3)
    ]
    split = summary([token_loss(algorithm, part).metrics for part in parts])
    assert split == whole
    assert whole["clip_high"] == pytest.approx(1 / 3)
    assert whole["clip_low"] == pytest.approx(1 / 3)
    assert (whole["ratio_min"], whole["ratio_max"]) == pytest.approx((0.5, 2.0))
    assert whole["kl_ref"] == pytest.approx(1 - LN2)
    assert whole["kl_old"] == pytest.approx((2 + 1 + 0.5 - 3) / 3)  # mean r - 1 - mean log r
    assert whole["mismatch_abs"] == pytest.approx(LN2)
    assert whole["mismatch_ess"] == pytest.approx(1.0)  # all alike
    assert whole["mismatch_chi2"] == pytest.approx(-0.75)  # ρ = ½
    assert summary([]) == {}
