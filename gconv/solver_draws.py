"""What a Solver draws: minibatches, changes of their images, samples for an accuracy check."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gconv._typing import Array
from gconv.training.augmentation import Augment

__all__ = ["Draws", "Minibatch"]


class Minibatch(NamedTuple):
    """What was drawn for a step: indices (M,), and with augmentation what becomes of each image, (M, 5)."""

    indices: Array
    changes: Array | None


class Draws:
    """Draws from a generator, or from NumPy's global state as the course's Solver does.

    Attributes
    ----------
    order : integer array or None
        The epoch's permutation, with the sampling "shuffle".
    ahead : list of Minibatch
        Drawn for a graph that was interrupted; used up first.
    """

    def __init__(
        self, rng: np.random.Generator | None, batch_size: int, sampling: str, augment: Augment | None
    ) -> None:
        self._rng, self._batch_size, self._sampling, self._augment = rng, batch_size, sampling, augment
        self.order: Array | None = None
        self.ahead: list[Minibatch] = []

    def choice(self, n: int, size: int) -> Array:
        """Return ``size`` indices below ``n``, with replacement."""
        chooser: Callable[..., Array] = np.random.choice if self._rng is None else self._rng.choice
        return chooser(n, size)

    def minibatch(self, shape: tuple[int, ...], iteration: int) -> Minibatch:
        """Draw the minibatch of an iteration, to be called for each in turn; ``shape`` is the training data's."""
        if self.ahead:
            return self.ahead.pop(0)
        chosen = self._indices(shape[0], iteration)
        if self._augment is None:
            return Minibatch(chosen, None)
        return Minibatch(chosen, self._augment.draw(self._rng, len(chosen), *shape[2:]))

    def _indices(self, n: int, iteration: int) -> Array:
        if self._sampling == "replacement":
            return self.choice(n, self._batch_size)
        position = iteration % max(n // self._batch_size, 1)
        if position == 0 or self.order is None:
            self.order = np.random.permutation(n) if self._rng is None else self._rng.permutation(n)
        return self.order[position * self._batch_size : (position + 1) * self._batch_size]
