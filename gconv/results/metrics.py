"""Figures of a classifier's predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gconv._checks import check_labels, check_shape, positive_int
from gconv._typing import Array

__all__ = ["accuracy", "confusion_matrix", "most_confused", "precision", "recall"]


def accuracy(y: Array, y_pred: Array) -> float:
    """Return the share of predictions that are right; NaN without samples.

    >>> accuracy(np.array([0, 1, 1]), np.array([0, 1, 2]))
    0.6666666666666666
    """
    check_shape("accuracy", "y_pred", y_pred, y.shape, "of y")
    return float((y == y_pred).mean()) if len(y) else float("nan")


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


def precision(confusion: Array) -> Array:
    """Return, for each class, the share of the samples predicted as it that are of it; NaN where there are none."""
    return _share(confusion, confusion.sum(axis=0))


def recall(confusion: Array) -> Array:
    """Return the share of each true class that was predicted right; NaN for a class without samples."""
    return _share(confusion, confusion.sum(axis=1))


def most_confused(
    confusion: Array, class_names: Sequence[str] | None = None, count: int = 10
) -> list[tuple[str, str, int]]:
    """Return which classes are taken for which others most often, as (true, predicted, how many), most first.

    Parameters
    ----------
    confusion : integer array, shape (C, C)
        From confusion_matrix.
    class_names : sequence of str, optional
        Numbers by default.
    count : int
        At most so many pairs; those that never happened are left out.

    Examples
    --------
    >>> most_confused(np.array([[5, 2, 0], [1, 6, 0], [3, 0, 4]]), ["cat", "dog", "bird"])
    [('bird', 'cat', 3), ('cat', 'dog', 2), ('dog', 'cat', 1)]
    """
    names = [str(i) for i in range(len(confusion))] if class_names is None else list(class_names)
    wrong = confusion - np.diag(np.diag(confusion))
    largest = np.argsort(-wrong, axis=None, kind="stable")[: positive_int("most_confused", "count", count)]
    pairs = [divmod(int(place), len(confusion)) for place in largest]
    return [(names[row], names[column], int(wrong[row, column])) for row, column in pairs if wrong[row, column]]


def _share(confusion: Array, counts: Array) -> Array:
    return np.where(counts > 0, np.diag(confusion) / np.maximum(counts, 1), np.nan)
