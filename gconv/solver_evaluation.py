"""A Solver's accuracy checks, and its methods for people who come from scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gconv._arguments import backend_of
from gconv._checks import check_shape, positive_int, real_number
from gconv._typing import Array
from gconv.backends import Backend, array_kind
from gconv.results.metrics import predict, scores
from gconv.solver_draws import Draws
from gconv.solver_steps import model_backend

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Evaluation"]


class Evaluation:
    """check_accuracy, fit, predict, predict_proba and score."""

    model: Any
    rng: np.random.Generator | None
    draws: Draws
    X_train: Array
    X_val: Array
    _on_device: dict[int, Array]

    if TYPE_CHECKING:  # the Solver's
        set_data: Callable[[dict[str, Array]], None]
        train: Callable[[], None]
        _reset: Callable[[], None]

    def check_accuracy(self, X: Array, y: Array, num_samples: int | None = None, batch_size: int = 100) -> float:
        """Return the share of samples whose highest score is their label's.

        Parameters
        ----------
        X, y : array
            Samples along the first axis, and labels.
        num_samples : int, optional
            Draw so many samples, with replacement, where there are more.
        batch_size : int
            Samples a call of the model.

        Returns
        -------
        float
            In [0, 1]; NaN without samples.
        """
        batch_size = positive_int("check_accuracy", "batch_size", batch_size)
        backend_of("check_accuracy", X=X)
        check_shape("check_accuracy", "y", y, (len(X),), "to match X")
        chosen = None
        if num_samples is not None and len(X) > positive_int("check_accuracy", "num_samples", num_samples):
            chosen = self.draws.choice(len(X), num_samples)
        if not len(X):
            return math.nan
        backend = model_backend(self.model)
        if any(X is getattr(self, name, None) for name in ("X_train", "X_val")):
            X, y = self._resident(X), self._resident(y)
        count = len(X) if chosen is None else len(chosen)
        correct = 0
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size) if chosen is None else chosen[start : start + batch_size]
            images, labels = (backend.asarray(_samples(backend, array, part)) for array in (X, y))
            correct = correct + (self.model.loss(images).argmax(axis=1) == labels).sum()
        return int(correct) / count

    def _resident(self, array: Array) -> Array:
        """Return the data set's array on the model's backend, moved there once."""
        backend = model_backend(self.model)
        if id(array) not in self._on_device:
            self._on_device[id(array)] = backend.asarray(array)
        return self._on_device[id(array)]

    def fit(
        self,
        X: Array,
        y: Array,
        X_val: Array | None = None,
        y_val: Array | None = None,
        validation_fraction: float = 0.1,
    ) -> Self:
        """Train for ``num_epochs`` on these samples, from the weights that the model had before the first ``fit``.

        Parameters
        ----------
        X : array
            Samples along the first axis.
        y : integer array, shape (N,)
            Labels.
        X_val, y_val : array, optional
            To validate on, for the best parameters and early stopping.
        validation_fraction : float
            Without ``X_val``, so much of X is drawn and set aside for it; 0 for nothing.

        Returns
        -------
        Solver
            Itself.

        Raises
        ------
        ValueError, TypeError
            As the Solver does for its data; if ``y_val`` is missing; for a fraction outside [0, 1).
        """
        func = "Solver.fit"
        backend = backend_of(func, X=X)
        if X.ndim < 1:
            raise ValueError(f"{func}: X must have samples along its first axis; got shape {X.shape}")
        check_shape(func, "y", y, (len(X),), "to match X")
        if (X_val is None) != (y_val is None):
            given = "X_val" if y_val is None else "y_val"
            raise ValueError(f"{func}: X_val and y_val must be given together; got {given} alone")
        if X_val is None:
            X, y, X_val, y_val = self._held_out(backend, X, y, validation_fraction)
        self.set_data({"X_train": X, "y_train": y, "X_val": X_val, "y_val": y_val})
        if not hasattr(self, "_initial"):
            self._initial = {name: w.copy() for name, w in self.model.params.items()}
            self._initial_buffers = {name: a.copy() for name, a in getattr(self.model, "buffers", {}).items()}
        self.model.params.update({name: w.copy() for name, w in self._initial.items()})
        if hasattr(self.model, "buffers"):
            self.model.buffers = {name: a.copy() for name, a in self._initial_buffers.items()}
        self._reset()
        self.train()
        return self

    def _held_out(self, backend: Backend, X: Array, y: Array, fraction: float) -> tuple[Array, Array, Array, Array]:
        """Return (X, y, X_val, y_val), a share of the samples set aside."""
        count = int(real_number("Solver.fit", "validation_fraction", fraction, 0, 1 - 1e-9) * len(X))
        order = np.random.permutation(len(X)) if self.rng is None else self.rng.permutation(len(X))
        parts = [backend.gather_rows(array, part) for part in (order[count:], order[:count]) for array in (X, y)]
        return parts[0], parts[1], parts[2], parts[3]

    def predict(self, X: Array) -> Array:
        """Return the class of each sample's highest score, int64 (N,), in the array module of X."""
        return backend_of("Solver.predict", X=X).asarray(predict(self.model, X))

    def predict_proba(self, X: Array) -> Array:
        """Return the softmax of each sample's scores, (N, num_classes), in the array module of X."""
        backend = backend_of("Solver.predict_proba", X=X)
        values = scores(self.model, X)
        exponentials = np.exp(values - values.max(axis=1, keepdims=True))
        return backend.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))

    def score(self, X: Array, y: Array) -> float:
        """Return the share of samples that are predicted right; NaN without samples."""
        return self.check_accuracy(model_backend(self.model).asarray(X), y)


def _samples(backend: Backend, array: Array, part: slice | Array) -> Array:
    """Return the samples of a slice, or of indices, of an array wherever it is."""
    if isinstance(part, slice) or array_kind(array) == "numpy":
        return array[part]
    return backend.gather_rows(array, part)
