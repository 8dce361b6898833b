"""The data set: checked, gathered into minibatches, and kept where the model is."""

from __future__ import annotations

from typing import Any

from gconv._arguments import backend_of
from gconv._checks import check_shape, param, real_number
from gconv._typing import Array
from gconv.backends import Backend, array_kind, get_backend
from gconv.training.augmentation import Augment
from gconv.training.draws import Draws, Minibatch

__all__ = ["Batches", "hold_out"]


class Batches:
    """A data set: ``X_train``, ``y_train``, ``X_val``, ``y_val``, samples along the first axis and integer labels.

    Raises
    ------
    ValueError, TypeError
        For data that are no data set, or augmentation of what is no image.
    """

    def __init__(self, data: dict[str, Array], augment: Augment | None) -> None:
        self.X_train, self.y_train = _samples(data, "X_train", "y_train")
        self.X_val, self.y_val = _samples(data, "X_val", "y_val")
        if not len(self.X_train):
            raise ValueError("Solver: data['X_train'] must hold at least one sample; got none")
        _check_augment(augment, self.X_train)
        self._augment = augment
        self._there: dict[str, tuple[Array, Array]] = {}

    def resident(self, name: str, backend: Backend) -> Array:
        """Return ``X_train``, ... on the model's backend, moved there once."""
        array = getattr(self, name)
        if name not in self._there or self._there[name][0] is not array:  # somebody may set another one
            self._there[name] = array, backend.asarray(array)
        return self._there[name][1]

    def where(self, array: Array, backend: Backend) -> Array:
        """Return ``array``, or the copy on the model's backend of one that is the data set's own."""
        for name in ("X_train", "y_train", "X_val", "y_val"):
            if array is getattr(self, name):
                return self.resident(name, backend)
        return array

    @property
    def augmented(self) -> bool:
        """Whether the images of a minibatch are changed."""
        return self._augment is not None

    def augment_step(self, backend: Backend, X: Array, table: Array, row: Array) -> Array:
        """Return images changed as a row on the device of a table (steps, M, 5) says."""
        return X if self._augment is None else backend.augment_step(X, table, row, self._augment.cutout)

    def take(self, batch: Minibatch) -> tuple[Array, Array]:
        """Return a minibatch's samples, changed as drawn, and labels."""
        backend = get_backend(self.X_train)
        labels = backend if type(self.y_train) is type(self.X_train) else get_backend(self.y_train)
        X, y = backend.gather_rows(self.X_train, batch.indices), labels.gather_rows(self.y_train, batch.indices)
        if self._augment is not None and batch.changes is not None:
            X = backend.augment(X, batch.changes, self._augment.cutout)
        return X, y


def hold_out(
    func: str, X: Array, y: Array, X_val: Array | None, y_val: Array | None, fraction: float, draws: Draws
) -> dict[str, Array]:
    """Return a data set of samples and labels; without ``X_val`` a fraction of them, drawn, is what to validate on.

    Raises
    ------
    ValueError, TypeError
        If lengths do not match; if one of ``X_val`` and ``y_val`` is missing; for a fraction outside [0, 1).
    """
    backend = backend_of(func, X=X)
    if X.ndim < 1:
        raise ValueError(f"{func}: X must have samples along its first axis; got shape {X.shape}")
    check_shape(func, "y", y, (len(X),), "to match X")
    if (X_val is None) != (y_val is None):
        given = "X_val" if y_val is None else "y_val"
        raise ValueError(f"{func}: X_val and y_val must be given together; got {given} alone")
    if X_val is not None and y_val is not None:
        return {"X_train": X, "y_train": y, "X_val": X_val, "y_val": y_val}
    count = int(real_number(func, "validation_fraction", fraction, 0, 1 - 1e-9) * len(X))
    order = draws.permutation(len(X))
    train, val = order[count:], order[:count]
    parts = {"X_train": (X, train), "y_train": (y, train), "X_val": (X, val), "y_val": (y, val)}
    return {name: backend.gather_rows(array, part) for name, (array, part) in parts.items()}


def _samples(data: Any, x_name: str, y_name: str) -> tuple[Array, Array]:
    """Return (X, y) of the data set, samples along the first axis and as many integer labels."""
    X, y = param("Solver", "data", data, x_name), param("Solver", "data", data, y_name)
    for name, array in ((x_name, X), (y_name, y)):
        if array_kind(array) is None or array.ndim < 1:
            raise TypeError(f"Solver: data[{name!r}] must be an array of samples; got {type(array).__name__}")
    if X.dtype.kind not in "fiub":
        raise TypeError(f"Solver: data[{x_name!r}] must be real numbers; got dtype {X.dtype}")
    if y.dtype.kind not in "iu":
        raise TypeError(f"Solver: data[{y_name!r}] must be integer labels; got dtype {y.dtype}")
    if y.shape != (len(X),):
        raise ValueError(
            f"Solver: data[{y_name!r}] must have shape {(len(X),)} to match data[{x_name!r}]; got {tuple(y.shape)}"
        )
    return X, y


def _check_augment(augment: Any, X: Array) -> None:
    """Raise an error unless ``augment`` can be applied to the training data."""
    if augment is None:
        return
    if not isinstance(augment, Augment):
        raise TypeError(f"Solver: augment must be a gconv.training.augmentation.Augment; got {type(augment).__name__}")
    if X.ndim != 4:
        raise ValueError(f"Solver: augment needs data['X_train'] of images (N, C, H, W); got shape {tuple(X.shape)}")
