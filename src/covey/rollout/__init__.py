"""Rollouts: episodes, groups, and the stream of them."""

from covey.rollout.order import Order
from covey.rollout.source import SynchronousSource

__all__ = ["Order", "SynchronousSource"]
