"""The order problems are drawn in: a function of the seed, with a single number for its state."""

from __future__ import annotations

import hashlib

import numpy as np


class Order:
    """Indices 0..count-1, every one once per epoch, each epoch shuffled anew.

    Place k of epoch e depends on (seed, e, k) only, so ``drawn``, the number of indices taken so
    far, is all there is to continue from.
    """

    def __init__(self, count: int, seed: int) -> None:
        if count < 1:
            raise ValueError("there is no problem to draw")
        self.count, self.seed, self.drawn = count, seed, 0
        self._epoch, self._shuffled = -1, np.empty(0, dtype=np.int64)

    def take(self, number: int) -> list[int]:
        """The next ``number`` indices."""
        taken = [self._at(self.drawn + i) for i in range(number)]
        self.drawn += number
        return taken

    def _at(self, place: int) -> int:
        epoch, within = divmod(place, self.count)
        if epoch != self._epoch:
            digest = hashlib.blake2b(f"order/{self.seed}/{epoch}".encode(), digest_size=16).digest()
            generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
            self._epoch, self._shuffled = epoch, generator.permutation(self.count)
        return int(self._shuffled[within])
