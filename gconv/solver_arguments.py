"""Checks of what a Solver is given."""

from __future__ import annotations

from typing import Any

from gconv._typing import Array
from gconv.backends import array_kind
from gconv.shapes import param, positive_int

__all__ = ["optional_count", "samples"]


def optional_count(name: str, value: int | None) -> int | None:
    """Return ``value`` as a positive int, or None."""
    return None if value is None else positive_int("Solver", name, value)


def samples(data: Any, x_name: str, y_name: str) -> tuple[Array, Array]:
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
