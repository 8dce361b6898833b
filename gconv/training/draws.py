"""What a training draws: minibatches, changes of their images, samples for an accuracy check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gconv._typing import Array
from gconv.training.augmentation import Augment

__all__ = ["Drawn", "Draws", "Minibatch"]


class Minibatch(NamedTuple):
    """What was drawn for a step: indices (M,), and with augmentation what becomes of each image, (M, 5)."""

    indices: Array
    changes: Array | None


class Drawn(NamedTuple):
    """Where the random numbers stand: generators' states, an epoch's permutation, minibatches drawn ahead.

    The state of NumPy's global generator is None where nothing draws from it: a copy takes as long as a small step.
    """

    global_state: Any
    generator_state: Any
    order: Array | None
    ahead: tuple[Minibatch, ...]


class Draws:
    """Draws from a generator, or from NumPy's global state as the course's Solver does.

    Attributes
    ----------
    rng : numpy.random.Generator or None
        None draws from NumPy's global state.
    order : integer array or None
        The epoch's permutation, with the sampling "shuffle".
    ahead : list of Minibatch
        Drawn and not used yet; used up first.
    """

    def __init__(
        self, rng: np.random.Generator | None, batch_size: int, sampling: str, augment: Augment | None
    ) -> None:
        self.rng, self._batch_size, self._sampling, self._augment = rng, batch_size, sampling, augment
        self.order: Array | None = None
        self.ahead: list[Minibatch] = []

    def choice(self, n: int, size: int) -> Array:
        """Return ``size`` indices below ``n``, with replacement."""
        # Generator.choice(n, size) is integers(0, n, size) after checks that take as long as the draw.
        return np.random.choice(n, size) if self.rng is None else self.rng.integers(0, n, size)

    def permutation(self, n: int) -> Array:
        """Return the indices below ``n`` in a random order."""
        return np.random.permutation(n) if self.rng is None else self.rng.permutation(n)

    def minibatch(self, shape: tuple[int, ...], position: int) -> Minibatch:
        """Return the minibatch of the step at ``position`` of its epoch; ``shape`` is the training data's."""
        return self.ahead.pop(0) if self.ahead else self._draw(shape, position)

    def size(self, n: int) -> int:
        """Return how many of ``n`` samples a minibatch has: a permutation has no more than there are."""
        return self._batch_size if self._sampling == "replacement" else min(self._batch_size, n)

    def look_ahead(self, shape: tuple[int, ...], positions: Sequence[int]) -> list[Minibatch]:
        """Return the minibatches of the steps to come, which stay in ``ahead`` until they are used."""
        self.ahead += [self._draw(shape, position) for position in positions[len(self.ahead) :]]
        return self.ahead[: len(positions)]

    def _draw(self, shape: tuple[int, ...], position: int) -> Minibatch:
        chosen = self._indices(shape[0], position)
        changes = None if self._augment is None else self._augment.draw(self.rng, len(chosen), *shape[2:])
        return Minibatch(chosen, changes)

    def _indices(self, n: int, position: int) -> Array:
        if self._sampling == "replacement":
            return self.choice(n, self._batch_size)
        if position == 0 or self.order is None:
            self.order = self.permutation(n)
        return self.order[position * self._batch_size : (position + 1) * self._batch_size]

    def drawn(self, others_draw: bool = True) -> Drawn:
        """Return where the random numbers stand; ``others_draw`` says whether a model may draw from the global ones."""
        generator = None if self.rng is None else self.rng.bit_generator.state
        global_state = np.random.get_state(legacy=True) if others_draw or self.rng is None else None
        return Drawn(global_state, generator, self.order, tuple(self.ahead))

    def return_to(self, drawn: Drawn) -> None:
        """Let everything that is drawn from here on be what was drawn from there on."""
        if drawn.global_state is not None:
            np.random.set_state(drawn.global_state)
        if self.rng is not None:
            self.rng.bit_generator.state = drawn.generator_state
        self.order, self.ahead = drawn.order, list(drawn.ahead)
