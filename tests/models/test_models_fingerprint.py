"""Fingerprints: equal for equal bits, different for any other."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from covey.models.fingerprint import digest, digest_rounded, fingerprint, joined


def test_the_same_bits_have_the_same_digest_wherever_they_lie() -> None:
    square = torch.arange(12.0).reshape(3, 4)
    assert digest(square) == digest(square.clone())
    assert digest(square.t()) == digest(square.t().contiguous())  # by value, not by memory


@given(place=st.integers(0, 11), bit=st.integers(0, 31))
def test_one_bit_shows(place: int, bit: int) -> None:
    tensor = torch.arange(12.0)
    other = tensor.clone()
    other.view(torch.int32)[place] ^= 1 << bit if bit < 31 else -(1 << 31)
    assert digest(other) != digest(tensor)


def test_shape_and_dtype_are_part_of_it() -> None:
    zeros = torch.zeros(4)
    same_bytes = [zeros, torch.zeros(2, 2), torch.zeros(4, dtype=torch.int32), torch.zeros(1, 4)]
    assert len({digest(tensor) for tensor in same_bytes}) == 4
    assert digest(torch.zeros(())) != digest(torch.zeros(1))


def test_names_are_part_of_the_whole_and_their_order_is_not() -> None:
    one, two = torch.ones(2), torch.zeros(3)
    whole = joined(fingerprint({"a": one, "b": two}))
    assert whole == joined(fingerprint({"b": two, "a": one}))
    assert whole != joined(fingerprint({"a": two, "b": one}))
    assert whole != joined(fingerprint({"a": one}))


def test_rounding_piece_by_piece_is_rounding() -> None:
    tensor = torch.randn(700, 800, generator=torch.Generator().manual_seed(0))  # three pieces
    assert digest_rounded(tensor, torch.bfloat16) == digest(tensor.bfloat16())
    assert digest_rounded(tensor, torch.float32) == digest(tensor)
