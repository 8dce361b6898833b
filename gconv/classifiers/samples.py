"""What the models that train themselves share: their samples checked, and those that are right counted."""

from __future__ import annotations

from gconv._arguments import backend_of
from gconv._checks import check_shape, positive_int
from gconv._typing import Array
from gconv.backends import Backend, get_backend

__all__ = ["check_samples", "share_right"]


def check_samples(func: str, X: Array, y: Array, X_val: Array, y_val: Array) -> Backend:
    """Return the backend of samples and labels to train and to validate on.

    Raises
    ------
    TypeError
        For what is no array, and for arrays of two modules.
    ValueError
        If there are no samples, or not a label for each.
    """
    backend = backend_of(func, X=X, y=y, X_val=X_val, y_val=y_val)
    for names, samples, labels in ((("X", "y"), X, y), (("X_val", "y_val"), X_val, y_val)):
        positive_int(func, f"len({names[0]})", len(samples))
        check_shape(func, names[1], labels, (len(samples),), f"to match {names[0]} {tuple(samples.shape)}")
    return backend


def share_right(scores: Array, y: Array) -> float:
    """Return the share of samples whose highest score (N, C) is their label's (N,)."""
    return float((get_backend(scores).xp.argmax(scores, axis=1) == y).mean())
