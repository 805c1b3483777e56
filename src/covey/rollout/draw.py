"""Which problems come next, given what was seen: evenly, without the solved ones, the informative first, or
from easy to hard.

A draw is a function of its seed and of what it was told, in order; so a record is enough to draw again
what was drawn. It knows problems by their index among the task's training problems.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from covey.rollout.order import Order
from covey.types import CoveyError, Group


class Uniform:
    """Every problem once an epoch, each epoch shuffled anew, whatever comes of it."""

    def __init__(self, count: int, seed: int) -> None:
        self.order = Order(count, seed)

    def take(self, step: int, number: int) -> list[int]:
        """The next ``number`` indices, for ``step``."""
        return self.order.take(number)

    def saw(self, step: int, drawn: Sequence[int], groups: Sequence[Group]) -> None:
        """Told what came of the indices that the last `take` gave."""

    def state(self) -> dict[str, Any]:
        """All that is needed to go on elsewhere, as JSON values."""
        return {"drawn": self.order.drawn}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; what another kind of draw left in it is passed over."""
        if "drawn" not in state:
            raise CoveyError("the state of the draw is that of a task with several parts, and this has one")
        self.order.drawn = int(state["drawn"])


class Retire(Uniform):
    """`Uniform` without the problems that are solved.

    A problem retires when the mean of its last ``visits`` pass rates is ``solved`` or more; a pass rate is
    the mean of a group's scores. With ``return_after`` it is back so many steps later, its rates forgotten.
    Once all have retired they are drawn like any others. (Retiring at 0.9: ScaleRL, arXiv:2510.13786,
    where it is called no-positive-resampling.)
    """

    def __init__(
        self, count: int, seed: int, solved: float = 1.0, visits: int = 1, return_after: int | None = None
    ) -> None:
        super().__init__(count, seed)
        _whole("visits", visits)
        if return_after is not None:
            _whole("return_after", return_after)
        self.solved, self.return_after = _number("solved", solved), return_after
        self.rates = Rates(count, visits)
        self.retired: dict[int, int] = {}

    def take(self, step: int, number: int) -> list[int]:
        """The next indices of the order that haven't retired."""
        self._bring_back(step)
        taken: list[int] = []
        while len(taken) < number:
            [index] = self.order.take(1)
            if index not in self.retired or len(self.retired) >= self.order.count:
                taken.append(index)
        return taken

    def saw(self, step: int, drawn: Sequence[int], groups: Sequence[Group]) -> None:
        """Retire what is solved. What had retired and was drawn for want of others may come back."""
        self.rates.note(drawn, groups)
        for index in drawn:
            rates = self.rates.last.get(index, [])
            if len(rates) == self.rates.visits and _mean(rates) >= self.solved:
                self.retired.setdefault(index, step)
            else:
                self.retired.pop(index, None)

    def state(self) -> dict[str, Any]:
        retired = {str(index): step for index, step in self.retired.items()}
        return {**super().state(), "rates": self.rates.state(), "retired": retired}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.rates.restore(state.get("rates", {}))
        retired = {int(index): int(step) for index, step in state.get("retired", {}).items()}
        self.retired = {index: step for index, step in retired.items() if index < self.order.count}

    def _bring_back(self, step: int) -> None:
        if self.return_after is None:
            return
        for index in [i for i, since in self.retired.items() if step - since > self.return_after]:
            del self.retired[index]
            self.rates.last.pop(index, None)


class Curriculum(Uniform):
    """Problems in proportion to what their pass rate leaves to be learned.

    A group of 0/1 rewards with pass rate p has variance p(1 - p), which is what moves the policy; so a
    problem weighs ``floor + (1 - floor) · 4 p (1 - p)``, p the mean of its last ``visits`` pass rates, cut to
    [0, 1]. What was never seen weighs 1. The ``floor`` keeps hopeless and solved problems from being
    forgotten. Within a step nothing is drawn twice until all have been. Drawn without replacement by
    exponential clocks (Efraimidis and Spirakis, Information Processing Letters 97, 2006).
    """

    def __init__(self, count: int, seed: int, floor: float = 0.1, visits: int = 1) -> None:
        super().__init__(count, seed)
        _whole("visits", visits)
        if not 0 < _number("floor", floor) <= 1:
            raise CoveyError(f"[rollout.draw] floor must be above 0 and at most 1, not {floor!r}")
        self.count, self.seed, self.floor = count, seed, floor
        self.rates = Rates(count, visits)
        self.step, self.taken = -1, set[int]()

    def take(self, step: int, number: int) -> list[int]:
        """The first of all clocks to ring, those of this step's earlier rounds last."""
        if step != self.step:
            self.step, self.taken = step, set()
        digest = hashlib.blake2b(f"draw/{self.seed}/{self.order.drawn}".encode(), digest_size=16).digest()
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
        rings = -np.log1p(-generator.random(self.count)) / self.weights()
        late = np.zeros(self.count, dtype=bool)
        late[list(self.taken)] = True
        ranked = np.lexsort((rings, late)).tolist()
        chosen = [ranked[place % self.count] for place in range(number)]
        self.taken = (self.taken | set(chosen)) if len(self.taken) + number < self.count else set()
        self.order.drawn += number
        return chosen

    def weights(self) -> np.ndarray:
        """One a problem."""
        weights = np.ones(self.count)
        for index, rates in self.rates.last.items():
            p = min(max(_mean(rates), 0.0), 1.0)
            weights[index] = self.floor + (1 - self.floor) * 4 * p * (1 - p)
        return weights

    def saw(self, step: int, drawn: Sequence[int], groups: Sequence[Group]) -> None:
        self.rates.note(drawn, groups)

    def state(self) -> dict[str, Any]:
        """Between two steps; inside one it would have to hold what the step has taken so far."""
        return {**super().state(), "rates": self.rates.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.rates.restore(state.get("rates", {}))
        self.step, self.taken = -1, set()


class Climb(Uniform):
    """Problems from easy to hard, a level at a time.

    The problems, in the order that their task has them in, are cut into ``levels`` of equal number. They are
    drawn from the first, evenly, until the mean of the last ``visits`` pass rates is ``up`` or more, and then
    from the next; where it is ``down`` or less, from the one before. Each level begins without pass rates.
    (So are the curricula of reasoning-gym climbed: arXiv:2505.24760.)
    """

    def __init__(
        self, count: int, seed: int, levels: int = 4, up: float = 0.7, down: float = 0.1, visits: int = 20
    ) -> None:
        super().__init__(count, seed)
        _whole("visits", visits)
        _whole("levels", levels)
        if levels > count:
            raise CoveyError(f"[rollout.draw] {count} problems can't be cut into levels = {levels}")
        if not _number("down", down) < _number("up", up):
            raise CoveyError(f"[rollout.draw] down must be less than up = {up!r}, not {down!r}")
        self.up, self.down, self.visits = up, down, visits
        ends = [count * level // levels for level in range(levels + 1)]
        self.starts, self.orders = ends[:-1], [Order(end - start, seed) for start, end in pairwise(ends)]
        self.level, self.last = 0, list[float]()

    def take(self, step: int, number: int) -> list[int]:
        """The next indices of the level."""
        self.order.drawn += number
        return [self.starts[self.level] + index for index in self.orders[self.level].take(number)]

    def saw(self, step: int, drawn: Sequence[int], groups: Sequence[Group]) -> None:
        """Go up or down when enough was seen."""
        rates = [rate for group in groups if (rate := pass_rate(group)) is not None]
        self.last = [*self.last, *rates][-self.visits :]
        if len(self.last) < self.visits:
            return
        level = self.level + (_mean(self.last) >= self.up) - (_mean(self.last) <= self.down)
        if level != self.level and level in range(len(self.orders)):
            self.level, self.last = level, []

    def state(self) -> dict[str, Any]:
        orders = [order.drawn for order in self.orders]
        return {**super().state(), "level": self.level, "last": list(self.last), "orders": orders}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.level = min(int(state.get("level", 0)), len(self.orders) - 1)
        self.last = [float(rate) for rate in state.get("last", ())][-self.visits :]
        for order, drawn in zip(self.orders, state.get("orders", ()), strict=False):
            order.drawn = int(drawn)


class Rates:
    """The last ``visits`` pass rates of every problem that was scored, oldest first."""

    def __init__(self, count: int, visits: int) -> None:
        self.count, self.visits = count, visits
        self.last: dict[int, list[float]] = {}

    def note(self, drawn: Sequence[int], groups: Sequence[Group]) -> None:
        """A group of which nothing was scored says nothing."""
        for index, group in zip(drawn, groups, strict=False):
            if (rate := pass_rate(group)) is not None:
                self.last[index] = [*self.last.get(index, []), rate][-self.visits :]

    def state(self) -> dict[str, list[float]]:
        return {str(index): list(rates) for index, rates in self.last.items()}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        kept = {int(index): [float(rate) for rate in rates] for index, rates in state.items()}
        self.last = {index: rates[-self.visits :] for index, rates in kept.items() if index < self.count}


def pass_rate(group: Group) -> float | None:
    """The mean of a group's scores; None when nothing of it was scored."""
    scores = [score.value for score in group.scores if score.value is not None]
    return _mean(scores) if scores else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CoveyError(f"[rollout.draw] {name} must be a whole number above 0, not {value!r}")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CoveyError(f"[rollout.draw] {name} must be a number, not {value!r}")
    return float(value)
