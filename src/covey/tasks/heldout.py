"""Which problems are held out: decided by what a problem is, never by where it stands.

An identity's SHA-256 places it in [0, 1); below the share, it is held out. So a problem keeps its side
on every machine, in every run, and when others are added or taken away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from covey.types import CoveyError


def place(identity: str) -> float:
    """Where an identity falls in [0, 1), evenly spread."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:6]) / 2**48


def shuffled(identity: str) -> float:
    """A sort key for a random but fixed order, independent of `place`: the first n are a fair choice."""
    return place(f"order {identity}")


def held_out(identities: Collection[str], share: float, where: str) -> frozenset[str]:
    """The identities on the held-out side, about ``share`` of them.

    Neither side is left empty: where the share would do that, which takes a handful of problems, the
    one identity nearest to the boundary changes sides.

    Raises:
        CoveyError: the share isn't between 0 and 1, or there are fewer than two identities.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise CoveyError(f"{where}: heldout must be a share between 0 and 1, such as 0.1, not {share!r}")
    if len(identities) < 2:
        raise CoveyError(
            f"{where}: to hold problems out takes at least two different ones, and there is {len(identities)}"
        )
    places = {identity: place(identity) for identity in identities}
    chosen = frozenset(identity for identity, at in places.items() if at < share)
    if not chosen:
        return frozenset([min(places, key=places.__getitem__)])
    if len(chosen) == len(places):
        return chosen - {max(places, key=places.__getitem__)}
    return chosen
