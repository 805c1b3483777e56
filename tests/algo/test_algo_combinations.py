"""Every combination of the tables is refused with a reason, or gives a finite loss and gradient."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from covey.algo import Algorithm, Choice, StepTokens, TokenBatch, select_tokens, token_loss
from covey.algo.advantage import ADVANTAGES
from covey.algo.aggregation import AGGREGATIONS
from covey.algo.batch import Step
from covey.algo.correction import CORRECTIONS
from covey.algo.entropy import ENTROPY, SELECTIONS
from covey.algo.kl import KL
from covey.algo.ratio import RATIOS
from covey.algo.surrogate import SURROGATES

NEEDED: dict[str, dict[str, Any]] = {
    "cispo": {"cap": 5.0},
    "off_policy_mask": {"delta": 0.1},
    **{name: {"coefficient": 0.1} for name in KL},
}
LENGTHS = torch.tensor([1, 4, 2, 3])
SEQUENCE = torch.arange(4).repeat_interleave(LENGTHS)


def choice(name: str) -> Choice:
    return Choice(name, NEEDED.get(name, {}))


def tokens(seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    drawn = {
        n: -torch.rand(10, generator=g, dtype=torch.float64) - 0.05 for n in ("logp", "old", "own", "ref")
    }
    return drawn | {"advantage": torch.randn(4, generator=g, dtype=torch.float64)[SEQUENCE]}


DRAWN = tokens(0)


def carried_out(algorithm: Algorithm) -> None:
    """Its loss on one ragged batch, and that masked or not, all of it is finite."""
    logp, entropy = (
        DRAWN[name].abs().mul(sign).requires_grad_() for name, sign in (("logp", -1), ("own", 1))
    )
    seen = StepTokens(DRAWN["old"], DRAWN["advantage"], -DRAWN["own"], -DRAWN["ref"] % 1)
    batch = TokenBatch(
        logp, DRAWN["old"], DRAWN["own"], DRAWN["ref"], DRAWN["advantage"], SEQUENCE,
        select_tokens(algorithm, seen), entropy,
    )  # fmt: skip
    out = token_loss(algorithm, batch)
    (grad,) = torch.autograd.grad(out.loss.sum(), logp, retain_graph=True, allow_unused=False)
    assert bool(out.loss.isfinite().all())
    assert bool(grad.isfinite().all())
    (own,) = torch.autograd.grad(out.loss.sum(), entropy, allow_unused=True)
    if algorithm.entropy is None:
        assert own is None
    else:
        assert own is not None
        assert bool((own == -algorithm.entropy.params["coefficient"]).all())  # whatever is masked
    if algorithm.kl is None and (weight := out.metrics.get("correction")) is not None:
        alone = torch.bincount(SEQUENCE[weight != 0], minlength=4) == 0
        assert bool((grad[alone[SEQUENCE]] == 0).all())  # of sequences that are masked whole


def built(**choices: Any) -> Algorithm | str:
    """The algorithm, or why there is none."""
    written: dict[str, Any] = {"advantage": Choice("mean"), "aggregation": Choice("token_mean"), **choices}
    try:
        return Algorithm(**written)
    except ValueError as error:
        return str(error)


def held(algorithm: Algorithm | str) -> bool:
    if isinstance(algorithm, str):
        assert len(algorithm) > 30, algorithm  # a reason, not a word
        return False
    carried_out(algorithm)
    return True


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_surrogates_on_every_ratio_with_every_correction_and_selection(surrogate: str) -> None:
    held_some = 0
    for ratio, correction, selection in product(RATIOS, (None, *CORRECTIONS), (None, *SELECTIONS)):
        held_some += held(
            built(
                surrogate=choice(surrogate),
                ratio=Choice(ratio),
                correction=(choice(correction),) if correction else (),
                selection=Choice(selection) if selection else None,
            )
        )
    assert held_some  # there is a way to use each


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_surrogates_on_every_ratio_with_every_kl(surrogate: str) -> None:
    for ratio, kl, where, truncated in product(RATIOS, (None, *KL), ("loss", "reward"), ("scored", "masked")):
        selection = Choice("top_covariance") if surrogate == "kl_cov" else None
        held(
            built(
                surrogate=choice(surrogate),
                ratio=Choice(ratio),
                kl=choice(kl) if kl else None,
                kl_in=where,
                truncated=truncated,
                selection=selection,
            )
        )


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_surrogates_with_a_bonus_and_controllers(surrogate: str) -> None:
    selection = Choice("top_covariance") if surrogate == "kl_cov" else None
    bonus = {"coefficient": 0.1}
    penalties = [
        None,
        *map(choice, KL),
        *(Choice("k3", bonus | {"against": a}) for a in ("learner", "sampler")),
    ]
    for ratio, kl, entropy, *controls in product(
        ("token", "sequence", "none"), penalties, (None, *ENTROPY), (False, True), (False, True)
    ):
        held(
            built(
                surrogate=choice(surrogate),
                ratio=Choice(ratio),
                kl=kl,
                selection=selection,
                entropy=Choice(entropy, bonus) if entropy else None,
                kl_control=Choice("adaptive", {"target": 6.0}) if controls[0] else None,
                entropy_control=Choice("adaptive") if controls[1] else None,
            )
        )


def test_pairs_of_corrections() -> None:
    for one, other, ratio in product(CORRECTIONS, CORRECTIONS, RATIOS):
        pair = (choice(one), choice(other))
        marked = {"only_selected", "drop_selected"} & {one, other}
        held(
            built(
                surrogate=Choice("reinforce" if ratio == "none" else "clip"),
                ratio=Choice(ratio),
                correction=pair,
                selection=Choice("top_entropy") if marked else None,
            )
        )


@pytest.mark.parametrize(("advantage", "aggregation"), list(product(ADVANTAGES, AGGREGATIONS)))
def test_advantages_with_every_aggregation(advantage: str, aggregation: str) -> None:
    surrogate = Choice("nll" if advantage == "none" else "clip")
    algorithm = built(
        advantage=Choice(advantage), aggregation=Choice(aggregation), surrogate=surrogate,
        ratio=Choice("none" if advantage == "none" else "token"),
    )  # fmt: skip
    assert isinstance(algorithm, Algorithm), algorithm
    group = torch.tensor([0, 0, 1, 1])
    for rewards in ([0.0, 1.0, 0.5, 0.5], [0.0] * 4, [-1.0, 1.0, -3.0, 3.0], [1e30, 0.0, -1e30, 0.0]):
        gains = algorithm.functions.advantage(torch.tensor(rewards).double(), group, LENGTHS)
        assert bool(gains.isfinite().all()), rewards
    weights = algorithm.functions.aggregation(Step(LENGTHS, group, 5, torch.tensor([0, 0, 0, 1])))
    assert bool((weights > 0).all())
    assert bool(weights.isfinite().all())


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"surrogate": "gmpo", "ratio": "sequence"}, "defined on ratio 'token'"),
        ({"surrogate": "clip", "ratio": "none"}, "gets its gradient from the ratio"),
        ({"surrogate": "clip", "ratio": "sequence", "correction": "token_mask"}, "weighs single tokens"),
        ({"surrogate": "clip", "truncated": "dropped"}, "must be 'scored' or 'masked'"),
        (
            {"surrogate": "clip", "kl": "k1", "kl_in": "reward", "truncated": "masked"},
            "put the KL in the loss",
        ),
        ({"surrogate": "clip", "kl": "ratio_k3", "kl_in": "reward"}, "a reward has none"),
        ({"surrogate": "clip", "selection": "top_entropy"}, "read by nobody"),
        ({"surrogate": "kl_cov"}, "there is no selection"),
    ],
)
def test_reasons(choices: dict[str, str], reason: str) -> None:
    written: dict[str, Any] = {
        name: value if name in ("kl_in", "truncated") else choice(value) for name, value in choices.items()
    }
    if "correction" in written:
        written["correction"] = (written["correction"],)
    refused = built(**written)
    assert isinstance(refused, str)
    assert reason in refused
