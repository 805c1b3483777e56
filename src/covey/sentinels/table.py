"""Every sentinel by name, and which of them a recipe sets to what."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covey.sentinels.constant_reward import ConstantReward
from covey.sentinels.duplicates import Duplicates
from covey.sentinels.end_token import EndToken
from covey.sentinels.entropy import Entropy
from covey.sentinels.identical import Identical
from covey.sentinels.length import Length
from covey.sentinels.length_gain import LengthGain
from covey.sentinels.listing import Listing
from covey.sentinels.micro_batch import MicroBatch
from covey.sentinels.mismatch import Mismatch
from covey.sentinels.non_finite import NonFinite
from covey.sentinels.oracle import Oracle
from covey.sentinels.ratio import Ratio
from covey.sentinels.sentinel import Level, Sentinel, Setting
from covey.sentinels.template import Template
from covey.sentinels.tokens import Tokens
from covey.sentinels.unscored import Unscored
from covey.sentinels.weights import EngineWeights
from covey.sentinels.zero_gradient import ZeroGradient
from covey.types import CoveyError

SENTINELS: Mapping[str, type[Sentinel]] = {
    sentinel.name: sentinel
    for sentinel in (
        EngineWeights,
        Template,
        Tokens,
        Identical,
        MicroBatch,
        Unscored,
        NonFinite,
        ZeroGradient,
        Ratio,
        Mismatch,
        EndToken,
        ConstantReward,
        Entropy,
        Length,
        LengthGain,
        Listing,
        Duplicates,
        Oracle,
    )
}
"""In the order of diagnosis: of two that speak at once, the first is nearer the cause."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sentinel that is on: at which level, and its thresholds where they aren't the defaults."""

    kind: type[Sentinel]
    level: Level
    thresholds: Mapping[str, Any]

    def post(self, setting: Setting) -> Sentinel:
        return self.kind(setting=setting, **self.thresholds)

    def describe(self) -> dict[str, Any]:
        """Level and all thresholds, for the record."""
        return {"level": self.level, **self.kind.defaults(), **self.thresholds}


def choose(wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Chosen]:
    """The sentinels that are on, by name, in the table's order.

    ``wanted`` is a recipe's section: name → ``level`` (``stop``, ``warn``, ``off``, or None for the
    sentinel's own) and thresholds. Raises CoveyError for a name or a threshold that there isn't, and
    for a value that can't be one.
    """
    for name in wanted:
        if name not in SENTINELS:
            raise CoveyError(f"[sentinels] there is no sentinel {name!r}; {_meant(name, SENTINELS)}")
    chosen: dict[str, Chosen] = {}
    for name, kind in SENTINELS.items():
        thresholds = {key: value for key, value in wanted.get(name, {}).items() if key != "level"}
        for key in thresholds:
            if key not in kind.defaults():
                raise CoveyError(f"[sentinels] {name!r} has no key {key!r}; {_meant(key, kind.defaults())}")
        try:
            kind(setting=Setting(), **thresholds)
        except ValueError as error:
            raise CoveyError(f"[sentinels] {name}: {error}") from error
        level = wanted.get(name, {}).get("level") or kind.level
        if level != "off":
            chosen[name] = Chosen(kind, level, thresholds)
    return chosen


def _meant(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    keys = ", ".join(known)
    return f"did you mean {close[0]!r}?" if close else f"there are: {keys}" if keys else "it has none"
