"""Drawing tokens: the right frequencies, never the impossible, and a stream that is the key's own."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from covey.engines.sampling import draw, uniforms
from covey.types import DrawKey

KEY = DrawKey(seed=3, step=5, problem_id="12+34", sample=1)
ALMOST_ONE = math.nextafter(1.0, 0.0)


def drawn(logits: torch.Tensor, uniform: list[float], temperature: float = 1.0) -> torch.Tensor:
    """The ids drawn from one row of logits, one for each uniform number."""
    count = len(uniform)
    ids, _ = draw(
        logits.repeat(count, 1),
        torch.tensor(uniform, dtype=torch.float64),
        torch.full((count,), temperature),
    )
    return ids


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> float:
    return ((counts - expected).square() / expected).sum().item()


@pytest.mark.parametrize("words", [2, 7, 255, 256, 257, 700])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_frequencies_are_the_softmax(words: int, temperature: float) -> None:
    logits = torch.randn(words, generator=torch.Generator().manual_seed(words))
    number = 20_000
    ids = drawn(logits, uniforms(KEY, number).tolist(), temperature)
    expected = (logits.double() / temperature).softmax(0) * number
    statistic = chi_square(torch.bincount(ids, minlength=words).double(), expected)
    # mean words - 1 and variance 2 (words - 1): four deviations above is 1 in 10,000 or rarer
    free = words - 1
    assert statistic < free + 4 * math.sqrt(2 * free)
    # and the test can fail: the same draws don't fit the distribution one step hotter
    other = (logits.double() / (temperature + 0.2)).softmax(0) * number
    assert chi_square(torch.bincount(ids, minlength=words).double(), other) > free + 4 * math.sqrt(2 * free)


def test_the_first_numbers_of_many_keys_are_uniform_too() -> None:
    number = 8000
    first = [uniforms(replace(KEY, sample=s), 1)[0] for s in range(number)]
    counts = torch.bincount((torch.tensor(first) * 20).long(), minlength=20).double()
    # 19 degrees of freedom: 19 + 4 √38 = 43.7
    assert chi_square(counts, torch.full((20,), number / 20).double()) < 43.7


@given(
    words=st.integers(1, 600),
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0.0, 0.99),
    sharpness=st.sampled_from([1.0, 30.0, 1000.0]),
    uniform=st.one_of(st.floats(0, ALMOST_ONE), st.sampled_from([0.0, 5e-324, 1e-300, 0.5, ALMOST_ONE])),
)
def test_a_token_of_probability_zero_is_never_drawn(
    words: int, seed: int, share: float, sharpness: float, uniform: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(words, generator=generator) * sharpness
    masked = torch.rand(words, generator=generator) < share
    masked[torch.randint(words, (1,), generator=generator)] = False
    logits[masked] = -math.inf
    ids, logp = draw(logits[None].clone(), torch.tensor([uniform], dtype=torch.float64), torch.ones(1))
    assert (logits - logits.max()).exp()[ids[0]] > 0
    want = logits.log_softmax(0)[ids[0]].item()
    if want > -80:  # below, one float32 number in between is already far in log
        assert logp[0].item() == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("words", [3, 256, 300, 513])
@pytest.mark.parametrize("only", [0, 1, -1])
def test_a_certain_token_is_drawn_by_any_number(words: int, only: int) -> None:
    logits = torch.full((words,), -math.inf)
    logits[only] = 2.0
    ids = drawn(logits, [0.0, 1e-300, 0.3, ALMOST_ONE])
    assert ids.tolist() == [only % words] * 4


def test_the_inverse_is_the_cumulative_distribution() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    # cumulative: 0.1, 0.3, 0.6, 1.0
    assert drawn(logits, [0.0, 0.05, 0.15, 0.29, 0.31, 0.59, 0.61, ALMOST_ONE]).tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]


def test_a_number_just_below_a_block_s_mass_stays_inside_it() -> None:
    # 600 words are three blocks of 256; all mass lies on words 255 and 256, either side of a boundary
    logits = torch.full((600,), -math.inf)
    logits[255] = logits[256] = 0.0
    below, above = math.nextafter(0.5, 0), math.nextafter(0.5, 1)
    assert drawn(logits, [0.0, below, 0.5, above, ALMOST_ONE]).tolist() == [255, 255, 256, 256, 256]


@given(words=st.integers(1, 600), seed=st.integers(0, 2**32 - 1), uniform=st.floats(0, ALMOST_ONE))
def test_greedy_takes_the_likeliest_and_reports_the_untempered_log_probability(
    words: int, seed: int, uniform: float
) -> None:
    logits = torch.randn(words, generator=torch.Generator().manual_seed(seed)) * 3
    ids, logp = draw(logits[None].clone(), torch.tensor([uniform], dtype=torch.float64), torch.zeros(1))
    assert ids[0] == logits.argmax()
    assert logp[0].item() == pytest.approx(logits.log_softmax(0).max().item(), abs=1e-5)


def test_rows_keep_to_themselves() -> None:
    """Each row has its own temperature and number, and -inf in one is nothing to its neighbours."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 300, generator=generator) * 2
    logits[1, :200] = -math.inf
    heat = torch.tensor([1.0, 0.5, 0.0, 2.0, 0.0, 1.0])
    numbers = torch.rand(6, generator=generator, dtype=torch.float64)
    ids, logp = draw(logits.clone(), numbers, heat)
    for row in range(6):
        one = slice(row, row + 1)
        alone, alone_logp = draw(logits[one].clone(), numbers[one], heat[one])
        assert alone[0] == ids[row]
        assert alone_logp[0].item() == pytest.approx(logp[row].item(), abs=1e-6)
        want = (logits[row] / (heat[row].item() or 1.0)).log_softmax(0)[ids[row]].item()
        assert logp[row].item() == pytest.approx(want, abs=1e-5)


@given(short=st.integers(0, 40), long=st.integers(0, 40), sample=st.integers(0, 100))
def test_fewer_numbers_are_the_first_of_more(short: int, long: int, sample: int) -> None:
    key = replace(KEY, sample=sample)
    short, long = sorted((short, long))
    many = uniforms(key, long)
    assert many.dtype == np.float64
    assert uniforms(key, short).tolist() == many[:short].tolist()
    assert ((many >= 0) & (many < 1)).all()


def test_every_part_of_the_key_counts() -> None:
    others = [
        replace(KEY, seed=4),
        replace(KEY, step=6),
        replace(KEY, problem_id="12+35"),
        replace(KEY, sample=2),
        replace(KEY, turn=1),
        replace(KEY, purpose="eval"),
        # no two fields run into each other: 1 and 23 is not 12 and 3
        replace(KEY, seed=1, step=23),
        replace(KEY, seed=12, step=3),
    ]
    streams = [tuple(uniforms(key, 8).tolist()) for key in (KEY, *others)]
    assert len(set(streams)) == len(streams)
    assert uniforms(KEY, 8).tolist() == uniforms(replace(KEY), 8).tolist()


def test_neighbouring_keys_are_independent() -> None:
    streams = np.stack([uniforms(replace(KEY, sample=s), 2000) for s in range(12)])
    correlation = np.corrcoef(streams) - np.eye(12)
    # 66 pairs of standard deviation 1/√2000 = 0.022: four of them are 0.09
    assert np.abs(correlation).max() < 0.09


def test_the_stream_is_fixed_for_good() -> None:
    """Recorded runs are replayed by these very numbers: whoever changes them changes the format."""
    assert uniforms(KEY, 3).tolist() == [0.3450430782373789, 0.07169356277247774, 0.9834761339146064]
