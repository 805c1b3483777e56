"""Rewards: what a reply is worth. Each name in ``REWARDS`` is a class whose instance is a `Reward`."""

from __future__ import annotations

REWARDS: dict[str, str] = {
    "code": "covey.rewards.code:Code",
    "number": "covey.rewards.number:Number",
}
"""Name → ``module:class``. The class takes the reward's parameters; it is imported when it is used."""
