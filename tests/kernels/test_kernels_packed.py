"""Matrices laid out once give the products of `linear`, and can be read back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from covey.kernels.packed import COLUMNS, Packed, available

DTYPES = [
    pytest.param(dtype, marks=pytest.mark.skipif(not available(dtype), reason="no library keeps a layout"))
    for dtype in (torch.float32, torch.bfloat16)
]


def matrices(dtype: torch.dtype, *rows: int, inner: int = 40, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, inner, generator=generator).to(dtype) for n in rows]


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 90), st.booleans())
def test_products_are_those_of_linear(
    dtype: torch.dtype, count: int, outer: int, inner: int, biased: bool
) -> None:
    (weight,) = matrices(dtype, outer, inner=inner)
    bias = weight[:, 0].clone() if biased else None
    (x,) = matrices(dtype, count, inner=inner, seed=1)
    exact = torch.nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    found = Packed([weight], bias)(x)
    assert found.dtype is dtype
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance * inner**0.5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_worth_the_same_whoever_stands_beside_it(dtype: torch.dtype) -> None:
    (weight,), (x,) = matrices(dtype, 64, inner=576), matrices(dtype, 200, inner=576, seed=1)
    packed = Packed([weight])
    whole = packed(x)
    for count in (1, 2, 7, 16, 33, 128, 199):
        torch.testing.assert_close(
            packed(x[:count]), whole[:count], rtol=0, atol=1e-5 if dtype is torch.float32 else 0.1
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_stand_one_below_the_other(dtype: torch.dtype) -> None:
    several = matrices(dtype, 8, 24, 16)
    (x,) = matrices(dtype, 5, seed=1)
    packed = Packed(several)
    torch.testing.assert_close(packed(x), Packed([torch.cat(several)])(x), rtol=0, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(packed.unpacked(several), several, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_it_was_not_made_of_is_found(dtype: torch.dtype) -> None:
    """Every column has been looked at after as many calls as cover them all."""
    several = matrices(dtype, 8, 24)
    packed = Packed(several)
    several[1][3, 29] += 1  # the layout keeps what it was made of
    calls = -(-40 // COLUMNS)
    found = [packed.unpacked(several) for _ in range(calls)]
    assert all(torch.equal(first, several[0]) for first, _ in found)
    assert any(not torch.equal(second, several[1]) for _, second in found)
    if dtype is torch.bfloat16:
        assert not any(torch.equal(second, several[1]) for _, second in found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_matrix_that_changed_everywhere_is_found_at_once(dtype: torch.dtype) -> None:
    weights = matrices(dtype, 12)
    packed = Packed(weights)
    weights[0].mul_(1.01)
    assert not torch.equal(packed.unpacked(weights)[0], weights[0])
