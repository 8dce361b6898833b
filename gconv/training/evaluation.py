"""A model's scores on any number of samples, for accuracy checks, predictions and the command line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gconv._arguments import backend_of
from gconv._checks import check_shape, positive_int
from gconv._typing import Array
from gconv.backends import array_kind, get_backend
from gconv.training.batches import Batches
from gconv.training.draws import Draws
from gconv.training.model import check_scores, ignored_label, model_backend

__all__ = ["accuracy", "predict", "probabilities", "scores"]


def scores(model: Any, X: Array, batch_size: int = 100) -> Array:
    """Return a model's scores of all samples, (N, num_classes), as a NumPy array.

    Parameters
    ----------
    model : object
        Its ``loss(X)`` returns scores.
    X : array
        Samples along the first axis, of either array module.
    batch_size : int
        Samples a call of the model.

    Raises
    ------
    ValueError, TypeError
        If the model returns no scores (N, C).
    """
    size = positive_int("scores", "batch_size", batch_size)
    backend = model_backend(model) if getattr(model, "params", None) else get_backend(X)
    whole = slice(0, len(X))
    return np.concatenate([backend.to_numpy(part) for _, part in _scored("scores", model, X, whole, size)])


def predict(model: Any, X: Array, batch_size: int = 100) -> Array:
    """Return the class of the highest score for each sample, int64 (N,), as a NumPy array."""
    return scores(model, X, batch_size).argmax(axis=1)


def probabilities(model: Any, X: Array) -> Array:
    """Return the softmax of each sample's scores, (N, num_classes), as a NumPy array."""
    values = scores(model, X)
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def accuracy(
    model: Any,
    X: Array,
    y: Array,
    num_samples: int | None,
    batch_size: int,
    draws: Draws,
    batches: Batches | None,
) -> float:
    """Return the share of samples whose highest score is their label's; NaN without samples.

    Samples with the label that the model's ``loss_options`` ignore are not counted.

    Parameters
    ----------
    X, y : array
        Samples along the first axis, and labels.
    num_samples : int or None
        So many are drawn, with replacement, where there are more.
    batch_size : int
        Samples a call of the model.
    draws : Draws
    batches : Batches or None
        Has copies of its own arrays where the model is.
    """
    func = "check_accuracy"
    size = positive_int(func, "batch_size", batch_size)
    backend_of(func, X=X)
    check_shape(func, "y", y, (len(X),), "to match X")
    which: slice | Array = slice(0, len(X))
    if num_samples is not None and len(X) > positive_int(func, "num_samples", num_samples):
        which = draws.choice(len(X), num_samples)
    count = len(X) if isinstance(which, slice) else len(which)
    if not count:
        return math.nan
    backend, right, left_out = model_backend(model), 0, 0
    ignored = ignored_label(model)
    if batches is not None:
        X, y = batches.where(X, backend), batches.where(y, backend)
    for part, found in _scored(func, model, X, which, size):
        labels = backend.asarray(_samples(y, part), np.int64)
        hit = found.argmax(axis=1) == labels
        if ignored is not None:
            hit = hit & (labels != ignored)
            left_out = left_out + (labels == ignored).sum()
        right = right + hit.sum()
    count -= int(left_out)
    return int(right) / count if count else math.nan


def _scored(func: str, model: Any, X: Array, which: slice | Array, size: int) -> Iterator[tuple[slice | Array, Array]]:
    """Yield parts of the samples, as a slice or indices, and their scores; at least one part."""
    backend = model_backend(model) if getattr(model, "params", None) else get_backend(X)
    count = which.stop if isinstance(which, slice) else len(which)
    for start in range(0, count or 1, size):
        part = slice(start, min(start + size, count)) if isinstance(which, slice) else which[start : start + size]
        images = backend.asarray(_samples(X, part))
        yield part, check_scores(func, model.loss(images), len(images))


def _samples(array: Array, part: slice | Array) -> Array:
    """Return copies of samples: a model may write to what it is given, and the data are the user's."""
    if isinstance(part, slice):
        return array[part].copy()
    return array[part] if array_kind(array) == "numpy" else get_backend(array).gather_rows(array, part)
