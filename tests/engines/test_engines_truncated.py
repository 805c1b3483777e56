"""Truncated sampling: what is kept, that it is drawn from, and that nothing else is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from covey.engines.sampling import draw, draw_kept, uniforms
from covey.engines.scripted import ScriptedEngine
from covey.types import MOST_KEPT, CoveyError, DrawKey, Request, Sampling

GOLDEN = Path(__file__).parents[1] / "algo" / "fixtures" / "grpo_fixtures.json"
KEY = DrawKey(seed=3, step=5, problem_id="12+34", sample=1)
ALMOST_ONE = math.nextafter(1.0, 0.0)


def drawn(logits: Tensor, uniform: list[float], sampling: Sampling) -> tuple[list[int], list[float], Tensor]:
    """Of one row of logits: the id and its log-probability for each number, and the ids that are kept."""
    several = logits.repeat(len(uniform), 1)
    ids, logp, kept = draw_kept(several, torch.tensor(uniform, dtype=torch.float64), sampling)
    assert len(set(kept)) == 1
    return ids.tolist(), logp.tolist(), torch.tensor(kept[0])


def test_the_golden_vector() -> None:
    case = json.loads(GOLDEN.read_text())["misc"]["keep_sampling_mask"]
    # softmax of (2, 1, 0.5, -1, -2) is 0.603, 0.222, 0.134, 0.030, 0.011: three reach 0.959, two only 0.825;
    # renormalised over them the middle one has 0.2217 / 0.9589 = 0.2312, and runs from 0.629 to 0.860
    logits = torch.tensor(case["old_logits"])
    ids, logp, kept = drawn(logits, [0.62, 0.64, 0.85, 0.87], Sampling(1, top_k=5, top_p=case["top_p"]))
    assert kept.tolist() == case["kept_ids"]
    assert ids == [0, case["token"], case["token"], 2]
    assert logp[1] == pytest.approx(case["logp_old_masked"], abs=1e-6)


# masses 8, 4, 2, 1, 1 of 16: shares 1/2, 1/4, 1/8, 1/16, 1/16, at ids that aren't in their order
LOGITS = torch.tensor([1.0, 4.0, 1.0, 8.0, 2.0]).log()


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ({"top_k": 5}, [0, 1, 2, 3, 4]),
        ({"top_k": 50}, [0, 1, 2, 3, 4]),  # more than there are
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 4}, [0, 1, 3, 4]),  # of two equals at the edge the lower id
        ({"top_k": 5, "top_p": 0.49}, [3]),  # 1/2 reaches it
        ({"top_k": 5, "top_p": 0.51}, [1, 3]),
        ({"top_k": 5, "top_p": 0.9}, [0, 1, 3, 4]),  # 7/8 doesn't reach it
        ({"top_k": 2, "top_p": 0.6}, [3]),  # of what top_k leaves: 8/12
        ({"top_k": 5, "min_p": 0.24}, [1, 3, 4]),  # 2/8 is a quarter
        ({"top_k": 5, "min_p": 0.26}, [1, 3]),
        ({"top_k": 5, "top_p": 0.76, "min_p": 0.49}, [1, 3]),  # top_p leaves 4 too
        # at temperature 1/2 masses are squared, 64, 16, 4, 1, 1 of 86: 80/86 = 0.93
        ({"top_k": 5, "top_p": 0.9, "temperature": 0.5}, [1, 3]),
        ({"top_k": 5, "min_p": 0.06, "temperature": 0.5}, [1, 3, 4]),  # 4/64 = 0.0625
    ],
    ids=str,
)
def test_what_is_kept(how: dict[str, float], kept: list[int]) -> None:
    assert drawn(LOGITS, [0.5], Sampling(1, **how))[2].tolist() == kept


def test_frequencies_are_the_renormalised_ones() -> None:
    sampling = Sampling(1, temperature=0.7, top_k=40, top_p=0.9)
    logits = torch.randn(300, generator=torch.Generator().manual_seed(4)) * 2
    number = 20_000
    ids, _, kept = drawn(logits, uniforms(KEY, number).tolist(), sampling)
    assert 5 < len(kept) < 40
    counts = torch.bincount(torch.tensor(ids), minlength=300).double()
    expected = (logits[kept].double() / 0.7).softmax(0) * number
    assert counts.sum() == counts[kept].sum()
    # mean and variance of χ² are n - 1 and 2 (n - 1): four deviations above is 1 in 10,000 or rarer
    free = len(kept) - 1
    statistic = ((counts[kept] - expected).square() / expected).sum()
    assert statistic < free + 4 * math.sqrt(2 * free)


rows_of_logits = st.builds(
    lambda words, seed, sharpness, dtype: (
        torch.randn(words, generator=torch.Generator().manual_seed(seed)) * sharpness
    ).to(dtype),
    words=st.integers(1, 400),
    seed=st.integers(0, 2**32 - 1),
    sharpness=st.sampled_from([0.0, 0.1, 1.0, 5.0, 300.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),  # which has equals everywhere
)
samplings = st.builds(
    Sampling,
    max_new_tokens=st.just(1),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.one_of(st.integers(1, 8), st.integers(1, MOST_KEPT)),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 1.0)),
    min_p=st.one_of(st.just(0.0), st.floats(0.0, 0.99)),
)
numbers = st.one_of(st.floats(0, ALMOST_ONE), st.sampled_from([0.0, 5e-324, 0.5, ALMOST_ONE]))


@given(logits=rows_of_logits, sampling=samplings, uniform=numbers)
def test_what_is_drawn_is_kept_and_what_is_kept_adds_up(
    logits: Tensor, sampling: Sampling, uniform: float
) -> None:
    before = logits.clone()
    [token], [logp], kept = drawn(logits, [uniform], sampling)
    assert torch.equal(logits, before)
    assert token in kept
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert 1 <= len(kept) <= sampling.top_k
    own = (logits[kept].double() / sampling.temperature).log_softmax(0)
    assert logp == pytest.approx(own[kept.tolist().index(token)].item(), abs=1e-4)
    assert own.exp().sum().item() == pytest.approx(1)
    left = torch.ones(len(logits), dtype=torch.bool)
    left[kept] = False
    assert not left.any() or logits[left].max() <= logits[kept].min()  # nothing likelier was cut off
    if sampling.min_p:
        assert own.exp().min() >= sampling.min_p * own.exp().max() * (1 - 1e-5)


@given(
    logits=st.lists(rows_of_logits.filter(lambda row: len(row) > 9), min_size=2, max_size=6),
    sampling=samplings,
    uniform=numbers,
)
def test_a_row_is_nothing_to_its_neighbours(logits: list[Tensor], sampling: Sampling, uniform: float) -> None:
    words = min(map(len, logits))
    together = torch.stack([row[:words].float() for row in logits])
    number = torch.full((len(together),), uniform, dtype=torch.float64)
    ids, logp, kept = draw_kept(together, number, sampling)
    for row in range(len(together)):
        alone = draw_kept(together[row : row + 1].clone(), number[:1], sampling)
        assert (ids[row].item(), logp[row].item(), kept[row]) == (
            alone[0].item(),
            alone[1].item(),
            alone[2][0],
        )


@given(logits=rows_of_logits, uniform=st.floats(0.001, 0.999), temperature=st.sampled_from([0.5, 1.0, 2.0]))
def test_where_everything_is_kept_it_is_the_whole_distribution(
    logits: Tensor, uniform: float, temperature: float
) -> None:
    [token], [logp], kept = drawn(logits, [uniform], Sampling(1, temperature, top_k=MOST_KEPT))
    number, heat = torch.tensor([uniform], dtype=torch.float64), torch.tensor([temperature])
    ids, whole = draw(logits[None].clone(), number, heat)
    mass = (logits.double() / temperature).softmax(0)
    assert len(kept) == int((mass > 0).sum())
    edge = (mass.cumsum(0) - uniform).abs().min() < 1e-5  # where rounding may tip it over
    assert edge or (token == ids.item() and logp == pytest.approx(whole.item(), abs=1e-4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_that_are_no_numbers_are_told(dtype: torch.dtype) -> None:
    broken = torch.tensor([[math.nan] * 4, [1, math.nan, 2, 3], [-math.inf] * 4, [math.inf, 1, 2, 3]])
    whole = torch.tensor([[-math.inf, -math.inf, 1, -math.inf]])
    logits = torch.cat([broken, whole]).to(dtype)
    ids, logp, kept = draw_kept(logits, torch.full((5,), 0.9, dtype=torch.float64), Sampling(1, top_k=3))
    assert logp[:4].isnan().all()
    assert all(token in own for token, own in zip(ids.tolist(), kept, strict=True))
    assert (ids[4].item(), logp[4].item(), kept[4]) == (2, 0.0, (2,))  # what has no mass isn't kept


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"top_k": -1}, "top_k is from 0"),
        ({"top_k": MOST_KEPT + 1}, "to 1024, not 1025"),
        ({"top_k": 5, "top_p": 0.0}, "top_p is above 0"),
        ({"top_k": 5, "top_p": 1.1}, "top_p is above 0"),
        ({"top_k": 5, "min_p": 1.0}, "below 1, not 1.0"),
        ({"top_p": 0.9}, "set top_k, to at most 1024"),
        ({"min_p": 0.1}, "set top_k, to at most 1024"),
    ],
)
def test_what_can_t_be_kept_is_refused(how: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(1, **how)


def test_what_truncates() -> None:
    assert not Sampling(1).truncates
    assert Sampling(1, top_k=5).truncates
    assert not Sampling(1, temperature=0.0, top_k=5).truncates  # the likeliest is drawn anyway


def test_a_script_has_nothing_to_truncate() -> None:
    asked = Request((1, 2), Sampling(8, top_k=5), DrawKey(0, 0, "row 5", 0))
    with pytest.raises(CoveyError, match=r"problem 'row 5': .*leave top_k, top_p and min_p out"):
        list(ScriptedEngine(["hi"]).generate([asked]))
    greedy = replace(asked, sampling=Sampling(8, 0.0, top_k=5))
    assert dict(ScriptedEngine(["hi"]).generate([greedy]))[0].kept is None
