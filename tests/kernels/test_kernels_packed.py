"""Matrices laid out once give the products of `linear`, and can be read back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from covey import kernels
from covey.kernels.library import loaded
from covey.kernels.packed import (
    _MKL,
    COLUMNS,
    Layout,
    Packed,
    _mkl,
    _OneDNN,
    _Panels,
    available,
    in_c,
)

APART = {_Panels: 0.0, _MKL: 1e-4, _OneDNN: 0.125}
"""How far a row's products may lie apart beside other rows, where they are of the size of 24: libraries
choose an order of sums by the number of rows. 5e-5 was seen of MKL on Zen 4; 0.125 is bf16's last bit."""

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


def has(layout: type[Layout], dtype: torch.dtype) -> bool:
    """Whether the processor and torch have it, whichever a run would take."""
    if layout is _Panels:
        native = loaded()
        return native is not None and (dtype is torch.float32 or bool(native.covey_multiplies_bf16()))
    if layout is _MKL:
        return _mkl() is not None
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        (_Panels, torch.float32),
        (_MKL, torch.float32),
        (_Panels, torch.bfloat16),
        (_OneDNN, torch.bfloat16),
    ],
)
def test_every_layout_that_the_machine_has(
    layout: type[Layout], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has(layout, dtype):
        pytest.skip(f"{layout.__name__} has no {dtype} on this processor, in this torch or without kernels")
    monkeypatch.setattr("covey.kernels.packed._layout", lambda dtype: layout())
    weights = matrices(dtype, 33, 64, inner=131)
    bias = matrices(dtype, 1, inner=97, seed=2)[0][0]
    packed = Packed(weights, bias)
    for count in (*range(1, 13), 45, 131, 300):  # tiles of every size, and more rows than go through together
        (x,) = matrices(dtype, count, inner=131, seed=count)
        exact = torch.nn.functional.linear(x.double(), torch.cat(weights).double(), bias.double())
        # 131 additions to sums below 64, each rounded by 2^-24 * 32 = 2e-6 at most; bf16: its 8 bits, too
        relative = 2**-8 if dtype is torch.bfloat16 else 0.0
        torch.testing.assert_close(packed(x).double(), exact, rtol=relative, atol=131 * 2e-6)
    for _ in range(-(-131 // COLUMNS)):
        assert all(torch.equal(a, b) for a, b in zip(packed.unpacked(weights), weights, strict=True))
    x[3, 5] = float("nan")
    assert packed(x)[3].isnan().all()
    assert not packed(x)[4].isnan().any()


@pytest.mark.skipif(not in_c(torch.bfloat16), reason="bf16 isn't laid out in panels here")
@pytest.mark.parametrize("inner", [2, 64, 512, 576, 1024, 1026, 1536, 2560])
@pytest.mark.parametrize("biased", [False, True])
def test_panels_have_the_bits_of_linear(inner: int, biased: bool) -> None:
    """What is sampled is computed by panels, what is learned by `linear`; both are to be the same numbers."""
    (weight,) = matrices(torch.bfloat16, 960, inner=inner)
    bias = torch.randn(960, generator=torch.Generator().manual_seed(2)).bfloat16() if biased else None
    packed = Packed([weight], bias)
    for rows in (2, 5, 64, 300):  # a single row oneDNN cuts into other stretches where it is long
        (x,) = matrices(torch.bfloat16, rows, inner=inner, seed=rows)
        assert torch.equal(packed(x), torch.nn.functional.linear(x, weight, bias))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_worth_the_same_whoever_stands_beside_it(dtype: torch.dtype) -> None:
    (weight,), (x,) = matrices(dtype, 64, inner=576), matrices(dtype, 200, inner=576, seed=1)
    packed = Packed([weight])
    whole = packed(x)
    for count in (1, 2, 7, 16, 33, 128, 199):
        torch.testing.assert_close(packed(x[:count]), whole[:count], rtol=0, atol=APART[type(packed.layout)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_stand_one_below_the_other(dtype: torch.dtype) -> None:
    several = matrices(dtype, 8, 24, 16)
    (x,) = matrices(dtype, 5, seed=1)
    packed = Packed(several)
    torch.testing.assert_close(packed(x), Packed([torch.cat(several)])(x), rtol=0, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(packed.unpacked(several), several, strict=True))


@pytest.mark.skipif(loaded() is None, reason="without kernels nothing is laid out in panels")
@given(st.integers(1, 70), st.integers(1, 40))
def test_panels_hold_each_value_in_its_place_and_zeros_behind(outer: int, inner: int) -> None:
    """By number, so that a value that lands elsewhere is seen; NaN's bits are moved like any."""
    native = loaded()
    assert native is not None
    weight = torch.arange(1.0, outer * inner + 1).view(outer, inner)
    weight[-1, -1] = float("nan")
    held: Any = SimpleNamespace(outer=outer, inner=inner, rows=[outer], room=_Panels().lay(weight))
    (back,) = _Panels().read(held, [weight])
    assert torch.equal(back.view(torch.int32), weight.view(torch.int32))
    room = held.room.view(torch.float32)
    outputs = native.covey_panel()
    assert room.shape == (-(-outer // outputs), inner, outputs)
    rows = room.transpose(1, 2).flatten(0, 1)
    assert torch.equal(rows[:outer].nan_to_num(-1), weight.nan_to_num(-1))
    assert not rows[outer:].any()


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
    if not isinstance(packed.layout, _MKL):
        assert not any(torch.equal(second, several[1]) for _, second in found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_matrix_that_changed_everywhere_is_found_at_once(dtype: torch.dtype) -> None:
    weights = matrices(dtype, 12)
    packed = Packed(weights)
    weights[0].mul_(1.01)
    assert not torch.equal(packed.unpacked(weights)[0], weights[0])


@pytest.mark.skipif(not in_c(torch.bfloat16), reason="the processor has no bf16 products for kernels in C")
@given(st.integers(1, 200), st.integers(1, 130), st.integers(1, 90), st.booleans())
def test_products_over_tokens_are_added_up_in_fp32(count: int, outer: int, inner: int, first: bool) -> None:
    (dy,), (x,) = (matrices(torch.bfloat16, count, inner=n, seed=n) for n in (outer, inner))
    (total,) = matrices(torch.float32, outer, inner=inner, seed=2)
    want = dy.double().T @ x.double() + (0 if first else total.double())
    kernels.add_product(total, dy, x, first=first)
    # products of two bf16 are exact in fp32; their sum of up to 200 rounds by 2^-24 of its size each time
    torch.testing.assert_close(total.double(), want, rtol=1e-5, atol=1e-5 * count**0.5)


NATIVE = pytest.mark.skipif(loaded() is None, reason=f"no kernels: {kernels.why_not()}")
"""Products of our own are computed on every processor with kernels, whether or not a run would take them."""


def in_our_panels(weight: Tensor) -> Packed:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("covey.kernels.packed._layout", lambda dtype: _Panels())
        return Packed([weight])


@NATIVE
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 90))
def test_products_while_learning_have_the_bits_of_sampling(count: int, outer: int, inner: int) -> None:
    (weight,), (x,) = (matrices(torch.float32, n, inner=inner, seed=n) for n in (outer, count))
    assert torch.equal(kernels.product(x, weight), in_our_panels(weight)(x))


@NATIVE
def test_rows_of_products_know_nothing_of_each_other() -> None:
    """Beyond one stretch of rows, one of inputs and one group of panels, both ways."""
    (weight,) = matrices(torch.float32, 2050, inner=1100)
    (x,), (dy,) = matrices(torch.float32, 1030, inner=1100, seed=1), matrices(torch.float32, 1030, inner=2050)
    for product, rows in ((kernels.product, x), (kernels.product_back, dy)):
        whole = product(rows, weight)
        for count in (1, 7, 600):
            assert torch.equal(product(rows[:count].contiguous(), weight), whole[:count])
        assert torch.equal(product(rows[1000:].contiguous(), weight), whole[1000:])
    assert torch.equal(kernels.product(x, weight), in_our_panels(weight)(x))
    # a sum of 2,050 products is of the size of 45 and rounded 2,050 times, by 2^-24 of it at most
    exact, apart = dy.double() @ weight.double(), 2050 * 45 * 2**-24
    torch.testing.assert_close(kernels.product_back(dy, weight).double(), exact, rtol=0, atol=apart)
    total = torch.ones(1030, 1100)
    assert kernels.product_back(dy, weight, total) is total
    torch.testing.assert_close(total.double(), 1 + exact, rtol=0, atol=apart)


@NATIVE
def test_a_sum_over_a_vocabulary_loses_no_digits() -> None:
    """As a head's gradient is: each word's share is small, and their sum smaller still."""
    (weight,) = matrices(torch.float32, 49_152, inner=16)
    share = torch.softmax(matrices(torch.float32, 3, inner=49_152, seed=1)[0], 1)
    exact = share.double() @ weight.double()
    error = (kernels.product_back(share, weight).double() - exact).norm() / exact.norm()
    assert error < 2e-6  # MKL's, of three rows on a Zen 3, is 4e-6
