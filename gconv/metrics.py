"""Figures of a classifier's predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv._typing import Array
from gconv.backends import get_backend
from gconv.shapes import check_labels, check_shape, positive_int

__all__ = ["class_accuracy", "confusion_matrix", "predict"]


def predict(model: Any, X: Array, batch_size: int = 100) -> Array:
    """Return the class of the highest score for each sample, int64 (N,), as a NumPy array."""
    backend = get_backend(*model.params.values()) if getattr(model, "params", None) else get_backend(X)
    out = np.empty(len(X), np.int64)
    for start in range(0, len(X), positive_int("predict", "batch_size", batch_size)):
        scores = model.loss(backend.asarray(X[start : start + batch_size]))
        out[start : start + batch_size] = backend.to_numpy(scores.argmax(axis=1))
    return out


def confusion_matrix(y: Array, y_pred: Array, num_classes: int) -> Array:
    """Count the samples by true class (rows) and predicted class (columns).

    Parameters
    ----------
    y, y_pred : integer array, shape (N,)
    num_classes : int

    Returns
    -------
    int64 array, shape (num_classes, num_classes)

    Examples
    --------
    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    func = "confusion_matrix"
    size = positive_int(func, "num_classes", num_classes)
    check_shape(func, "y_pred", y_pred, y.shape, "of y")
    for labels in (y, y_pred):
        check_labels(func, np.empty((len(labels), size)), labels)
    return np.bincount(y * size + y_pred, minlength=size * size).reshape(size, size)


def class_accuracy(confusion: Array) -> Array:
    """Return the share of each true class that was predicted right; NaN for a class without samples."""
    counts = confusion.sum(axis=1)
    return np.where(counts > 0, np.diag(confusion) / np.maximum(counts, 1), np.nan)
