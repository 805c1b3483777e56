"""An algorithm is checked where it is written: names, parameters, combinations."""

from __future__ import annotations

import pytest
import torch

from covey.algo import PRESETS, Algorithm, Choice, TokenBatch, TokenLoss, preset, token_loss

MODERN = preset("modern")


def test_an_unknown_preset_names_the_one_meant() -> None:
    with pytest.raises(ValueError, match="unknown algorithm 'dr_grpo'; did you mean 'dr-grpo'"):
        preset("dr_grpo")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"advantag": "mean"}, "no choice 'advantag'; did you mean 'advantage'"),
        ({"advantage": "mean_st"}, "unknown advantage 'mean_st'; did you mean 'mean_std'"),
        ({"surrogate": {"name": "clip", "hihg": 0.3}}, "'clip' has no parameter 'hihg'; did you mean 'high'"),
        ({"surrogate": {"name": "clip", "high": "0.3"}}, "clip': high must be a number or None, not '0.3'"),
        ({"surrogate": {"name": "clip", "high": True}}, "high must be a number"),
        ({"advantage": {"name": "mean_std", "ddof": 1.0}}, "ddof must be a whole number"),
        ({"advantage": {"name": "centre_whiten", "over": "rows"}}, "over must be one of 'seq"),
        ({"kl": "k3"}, "kl 'k3' needs its parameter 'coefficient'"),
        ({"surrogate": {"low": 0.2}}, "a choice needs a name"),
        ({"surrogate": "reinforc", "ratio": "none"}, "did you mean 'reinforce'"),
        ({"aggregation": {"name": "token_mean", "x": 1}}, "no parameter 'x'; it has none"),
        ({"kl_in": "los"}, "kl_in must be 'loss' or 'reward'"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODERN.replace(**change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ratio": "sequence", "correction": "token_mask"}, "weighs single tokens"),
        ({"ratio": "sequence_product", "correction": "token_truncate"}, "weighs single tokens"),
        ({"ratio": {"name": "token", "against": "sampler"}, "correction": "sequence_mask"}, "a second time"),
        ({"surrogate": "gmpo", "ratio": "sequence"}, "defined on ratio 'token'"),
        ({"surrogate": "vespo"}, "defined on ratio 'sequence_product'"),
        ({"ratio": "none"}, "gets its gradient from the ratio"),
        ({"advantage": "none"}, "praises every sequence alike"),
        ({"surrogate": "nll", "correction": "token_truncate"}, "no policy term"),
        ({"kl": {"name": "ratio_k3", "coefficient": 0.1}, "kl_in": "reward"}, "a reward has none"),
        ({"surrogate": "nll", "kl": {"name": "k1", "coefficient": 0.1}, "kl_in": "reward"}, "no reward"),
        ({"correction": "only_selected"}, "there is no selection"),
        ({"surrogate": "kl_cov"}, "there is no selection"),
        ({"selection": "top_entropy"}, "read by nobody"),
        ({"surrogate": {"name": "clip", "high": 0.28, "dual": 1.2}}, "dual .1.2. must be above 1 . high"),
    ],
)  # fmt: skip
def test_choices_that_contradict_each_other_are_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MODERN.replace(**change)


def test_a_token_level_correction_suits_gspo_token() -> None:
    assert preset("gspo-token").replace(correction="token_mask").correction == (Choice("token_mask"),)


@pytest.mark.parametrize(
    ("name", "reference", "old", "sampler"),
    [
        ("modern", False, True, False),
        ("grpo", True, True, False),
        ("v3.2", True, True, True),
        ("olmo3", False, True, True),
        ("rloo", True, False, False),
        ("sft", False, False, False),
        ("distill", True, True, False),
        ("prime-rl", False, False, True),
        ("nanochat", False, False, False),
    ],
)
def test_an_algorithm_knows_whose_log_probs_it_needs(
    name: str, reference: bool, old: bool, sampler: bool
) -> None:
    algorithm = preset(name)
    got = (algorithm.needs_reference, algorithm.needs_old_logp, algorithm.needs_sampler_logp)
    assert got == (reference, old, sampler)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_description_writes_the_same_algorithm(name: str) -> None:
    algorithm = PRESETS[name]
    assert MODERN.replace(**algorithm.describe()) == algorithm


def test_a_missing_log_prob_is_named() -> None:
    batch = TokenBatch(torch.zeros(1), None, None, None, torch.ones(1), torch.zeros(1).long())
    with pytest.raises(ValueError, match="reads the reference's log-probs, but the batch has none"):
        token_loss(preset("grpo"), batch)


def test_a_function_of_ones_own_is_a_choice() -> None:
    def squared(batch: TokenBatch, log_ratio: torch.Tensor, *, width: float) -> TokenLoss:
        return TokenLoss(-batch.advantage * log_ratio + width * (batch.anchor("reference") - batch.logp) ** 2)

    own = MODERN.replace(surrogate=Choice(squared, {"width": 0.5}))
    assert own.needs_reference
    assert own.describe()["surrogate"] == {"name": "squared", "width": 0.5}
    batch = TokenBatch(
        torch.tensor([-1.0]), None, None, torch.tensor([-3.0]), torch.ones(1), torch.zeros(1).long()
    )
    assert token_loss(own, batch).loss.tolist() == [2.0]  # 0.5 · (-3 + 1)², log-ratio 0
    with pytest.raises(ValueError, match="surrogate 'squared' needs its parameter 'width'"):
        MODERN.replace(surrogate=squared)


def test_an_algorithm_is_only_its_choices() -> None:
    literal = Algorithm(
        advantage=Choice("mean"),
        surrogate=Choice("clip", {"low": 0.2, "high": 0.28}),
        aggregation=Choice("token_mean"),
    )
    assert literal == MODERN
    assert MODERN.replace(kl={"name": "k3", "coefficient": 0.1}).replace(kl=None) == MODERN
    assert MODERN.replace(correction=["token_truncate", "veto"]).replace(correction=None) == MODERN
