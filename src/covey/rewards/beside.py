"""A reward that mostly waits, for a server, does so in a thread: others are sampled meanwhile."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cached_property
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeAlias

from covey.types import Episode, Score

Grade: TypeAlias = Callable[[Sequence[Episode]], Sequence[Score]]
Orders: TypeAlias = SimpleQueue[tuple[Grade, Sequence[Episode], Future[Sequence[Score]]] | None]


class Beside(ABC):
    """Gives a reward `submit`: its groups are graded one after the other in a thread of its own.

    So what it does for one group, such as asking eight questions at a time, it never does for two. The thread
    ends with `close`, and with the program whatever it is waiting for.
    """

    @abstractmethod
    def __call__(self, episodes: Sequence[Episode]) -> Sequence[Score]: ...

    def submit(self, episodes: Sequence[Episode]) -> Callable[[], Sequence[Score]]:
        """Have them graded from now on; the scores are waited for when they are asked for."""
        scores: Future[Sequence[Score]] = Future()
        self._orders.put((self, episodes, scores))
        return scores.result

    def close(self) -> None:
        """Begin nothing more: whoever waits for what was not begun gets a CancelledError. What comes later
        begins anew."""
        if (orders := vars(self).pop("_orders", None)) is not None:
            with contextlib.suppress(Empty):
                while (order := orders.get_nowait()) is not None:
                    order[2].cancel()
            orders.put(None)

    @cached_property
    def _orders(self) -> Orders:
        orders: Orders = SimpleQueue()
        Thread(target=_serve, args=(orders,), daemon=True).start()
        return orders


def _serve(orders: Orders) -> None:
    while (order := orders.get()) is not None:
        grade, episodes, scores = order
        try:
            scores.set_result(grade(episodes))
        except BaseException as error:
            scores.set_exception(error)
