"""Each problem of a mixture scored by the reward of its own part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from covey.protocols import Reward, submitted
from covey.rewards.gold import check_all
from covey.types import CoveyError, Episode, Problem, Score

PART = "mixture_part"
"""The column that says which part of the task `mixture` a problem is of."""


@dataclass(frozen=True)
class ByPart:
    """The reward that stands under a problem's part. ``rewards`` are by the parts' labels."""

    rewards: Mapping[str, Reward]

    def __call__(self, episodes: Sequence[Episode]) -> Sequence[Score]:
        return self.submit(episodes)()

    def submit(self, episodes: Sequence[Episode]) -> Callable[[], Sequence[Score]]:
        """Give a problem's episodes to its part's reward."""
        if not episodes:
            return list[Score]
        return submitted(self._of(episodes[0].problem), episodes)

    def check(self, problem: Problem) -> None:
        """Raise CoveyError for a problem that no reward stands for."""
        self._of(problem)

    def check_all(self, problems: Sequence[Problem]) -> None:
        """Raise CoveyError for the first problem that its part's reward refuses."""
        parts: dict[str, list[Problem]] = {}
        for problem in problems:
            self._of(problem)
            parts.setdefault(problem.columns[PART], []).append(problem)
        for label, mine in parts.items():
            check_all(self.rewards[label], mine)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the parts' rewards have to say at the start of a run."""
        return tuple(note for reward in self.rewards.values() for note in getattr(reward, "notes", ()))

    @property
    def partial(self) -> bool:
        """Whether one of the rewards gives credit for a part of an answer."""
        return any(getattr(reward, "partial", False) for reward in self.rewards.values())

    def close(self) -> None:
        """End the processes that rewards have."""
        for reward in self.rewards.values():
            if callable(close := getattr(reward, "close", None)):
                close()

    def _of(self, problem: Problem) -> Reward:
        label = problem.columns.get(PART)
        if not isinstance(label, str) or label not in self.rewards:
            raise CoveyError(
                f"[reward] by_part: problem {problem.id!r} is of {_shown(label)}; there are rewards for: "
                f"{', '.join(self.rewards)}"
            )
        return self.rewards[label]


def _shown(label: object) -> str:
    return "no part of a mixture" if label is None else f"part {label!r}"
