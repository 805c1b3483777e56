"""The held-out split: stable, by identity, never empty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.tasks.heldout import held_out, place
from covey.types import CoveyError

IDENTITIES = st.sets(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=40)
SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)


def test_a_place_is_the_same_everywhere() -> None:
    # the first six bytes of sha256("12+34"), written out so that no change moves a problem unseen
    assert place("12+34") == 0x157F7928A712 / 2**48


@given(IDENTITIES, SHARES)
def test_neither_side_is_empty(identities: set[str], share: float) -> None:
    held = held_out(identities, share, "here")
    assert set() < held < identities


@given(IDENTITIES, IDENTITIES)
def test_other_problems_do_not_move_one(identities: set[str], others: set[str]) -> None:
    held, more = held_out(identities, 0.5, "here"), held_out(identities | others, 0.5, "here")
    for identity in identities:
        if 0 < len([i for i in identities if place(i) < 0.5]) < len(identities):
            assert (identity in held) == (identity in more) == (place(identity) < 0.5)


def test_the_share_is_about_kept() -> None:
    # 10,000 of share 0.1: 1,000 ± 4 standard deviations of sqrt(10,000 × 0.1 × 0.9) = 30
    assert 880 < len(held_out([str(i) for i in range(10_000)], 0.1, "here")) < 1120


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), "0.1", True, None])
def test_a_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(CoveyError, match="here: heldout must be a share between 0 and 1"):
        held_out(["a", "b"], share, "here")


@pytest.mark.parametrize("identities", [[], ["a"]])
def test_one_problem_cannot_be_split(identities: list[str]) -> None:
    with pytest.raises(CoveyError, match=f"at least two different ones, and there is {len(identities)}"):
        held_out(identities, 0.5, "here")
