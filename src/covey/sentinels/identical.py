"""The members of a group are independent draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from covey.sentinels.sentinel import Finding, Level, Sentinel
from covey.types import Episode, Group


@dataclass(kw_only=True)
class Identical(Sentinel):
    """Finds equal completions that chance can't explain.

    A sure policy rightly repeats itself, so equality alone proves nothing. But the engine reports how
    likely each completion was: of G independent draws, a given m are all some y with probability
    Σ_y p(y)^m, so the probability that they are equal *and* p(y)^(m-1) ≤ x is at most x. Two events are
    looked for, each with a chance of at most ``chance`` in a step: m of a group's members are equal
    (over all m, and over the step's groups), and every group of the step has equal members throughout.
    """

    name: ClassVar[str] = "identical"
    level: ClassVar[Level] = "stop"

    chance: float = 1e-9

    def blind(self) -> str | None:
        return "sampling is greedy" if self.setting.temperature == 0 else None

    def sampled(self, step: int, groups: Sequence[Group]) -> Finding | None:
        several = [g for g in groups if len(g.episodes) > 1]
        if self.setting.temperature == 0 or not several or self.chance == 0:
            return None
        limit = math.log(self.chance)
        whole = 0.0
        for group in several:
            size = len(group.episodes)
            for members in _repeated(group):
                odds = (len(members) - 1) * _logp(members[0])
                ways = math.log(math.comb(size, len(members)) * size * len(several))
                if odds + ways < limit:
                    return _finding(group, members, odds + ways)
        for group in several:
            repeated = _repeated(group)
            if not repeated or len(repeated[0]) < len(group.episodes):
                return None
            whole += (len(group.episodes) - 1) * _logp(group.episodes[0])
        return _finding(several[0], list(several[0].episodes), whole) if whole < limit else None


def _repeated(group: Group) -> list[list[Episode]]:
    """The group's equal completions, the most frequent first."""
    count = Counter(e.token_ids for e in group.episodes)
    return [
        [e for e in group.episodes if e.token_ids == ids] for ids, times in count.most_common() if times > 1
    ]


def _logp(episode: Episode) -> float:
    """log p of the whole completion; 0 (certain) when the engine reports none."""
    return sum(episode.sampler_logp or ())


def _finding(group: Group, members: list[Episode], odds: float) -> Finding:
    episode = members[0]
    samples = ", ".join(str(e.sample) for e in members)
    return Finding(
        f"{len(members)} of the {len(group.episodes)} answers to problem {group.problem.id!r} are the same, "
        "which chance can't explain",
        f"samples {samples} are {episode.chosen} equal tokens with log-probability {_logp(episode):.1f}: the "
        f"odds of such a step are 1 in 10^{-odds / math.log(10):.0f}. The text: {episode.text[:60]!r}",
        "group members share their random numbers: a seed that doesn't depend on the sample, one seed for "
        "a whole batch, or answers that are cached by prompt",
        "give each request its own stream of random numbers (DrawKey has sample and step) and turn off "
        "caching of answers",
    )
