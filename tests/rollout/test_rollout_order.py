"""The order of problems: every one once an epoch, and one number to continue from."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.rollout import Order


@given(count=st.integers(1, 60), seed=st.integers(0, 1000), epochs=st.integers(1, 3))
def test_an_epoch_has_every_index_once(count: int, seed: int, epochs: int) -> None:
    taken = Order(count, seed).take(count * epochs)
    for epoch in range(epochs):
        assert sorted(taken[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(
    count=st.integers(1, 40),
    seed=st.integers(0, 1000),
    sizes=st.lists(st.integers(0, 15), max_size=12),
    cut=st.integers(0, 12),
)
def test_how_it_is_taken_changes_nothing(count: int, seed: int, sizes: list[int], cut: int) -> None:
    """In pieces of any size, and continued in another process from the one number."""
    whole = Order(count, seed).take(sum(sizes))
    order, pieces = Order(count, seed), []
    for place, size in enumerate(sizes):
        if place == cut:
            drawn, order = order.drawn, Order(count, seed)
            order.drawn = drawn
        pieces += order.take(size)
    assert pieces == whole
    assert order.drawn == sum(sizes)


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    order = Order(50, seed=0)
    epochs = [order.take(50) for _ in range(5)]
    assert all(one != other for one, other in pairwise(epochs))
    assert epochs[0] != list(range(50))
    assert Order(50, seed=1).take(50) != epochs[0]


def test_the_order_is_fixed_for_good() -> None:
    """Whoever changes it breaks every checkpoint. NumPy doesn't promise it across its versions either."""
    assert Order(10, seed=0).take(12) == [7, 8, 9, 5, 2, 6, 4, 1, 0, 3, 5, 9]


def test_nothing_can_t_be_ordered() -> None:
    with pytest.raises(ValueError, match="there is no problem to draw"):
        Order(0, seed=0)
