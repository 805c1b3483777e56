"""Rollouts: episodes, groups, and the stream of them."""

from covey.rollout.draw import Climb, Curriculum, Retire, Uniform
from covey.rollout.episode import Attempt, Limits, Talk, play
from covey.rollout.mixed import Mixed, redraw
from covey.rollout.order import Order
from covey.rollout.source import SynchronousSource

DRAWS: dict[str, type[Uniform]] = {
    "uniform": Uniform,
    "retire": Retire,
    "curriculum": Curriculum,
    "climb": Climb,
}
"""The ways to draw problems, by the name a recipe has for them."""

__all__ = [
    "DRAWS",
    "Attempt",
    "Limits",
    "Mixed",
    "Order",
    "SynchronousSource",
    "Talk",
    "Uniform",
    "play",
    "redraw",
]
