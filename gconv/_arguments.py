"""From a public function's array arguments to its backend and arrays of one dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv._checks import common_dtype
from gconv._typing import Array
from gconv.backends import Backend, array_kind, backend_of_kind, get_backend, known_kind

__all__ = ["backend_of", "prepare", "prepare_layer", "with_axes"]


def backend_of(func: str, **arrays: Array) -> Backend:
    """Return the backend of the named arrays.

    Raises
    ------
    TypeError
        For what is no array, and for NumPy and CuPy arrays in one call.
    """
    first, *others = (known_kind(array) for array in arrays.values())
    if first is not None and all(kind is first for kind in others):
        return backend_of_kind(first)
    kinds = {name: array_kind(array) for name, array in arrays.items()}
    for name, kind in kinds.items():
        if kind is None:
            raise TypeError(f"{func}: {name} must be a NumPy or CuPy array; got {type(arrays[name]).__name__}")
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{name} of {kind}" for name, kind in kinds.items())
        raise TypeError(f"{func}: {', '.join(kinds)} must be arrays of one module; got {listed}")
    return get_backend(*arrays.values())


def prepare(func: str, **arrays: Array) -> tuple[Any, ...]:
    """Return (backend, array, ...), every array cast to the common floating dtype of all.

    >>> backend, x, b = prepare("demo", x=np.ones((2, 3), np.float32), b=np.arange(3))
    >>> backend.name, x.dtype.name, b.dtype.name
    ('cpu', 'float32', 'float32')
    """
    backend = backend_of(func, **arrays)
    dtype = common_dtype(func, **arrays)
    return backend, *(backend.asarray(array, dtype) for array in arrays.values())


def prepare_layer(func: str, x: Array, w: Array, b: Array | None) -> tuple[Any, ...]:
    """Return (backend, x, w, b) as ``prepare`` does; b may be None, for no bias, and stays it."""
    return (*prepare(func, x=x, w=w), None) if b is None else prepare(func, x=x, w=w, b=b)


def with_axes(array: Array) -> Array:
    """Return the array that a NumPy scalar, as operations on arrays without axes give, stands for."""
    return np.asarray(array) if isinstance(array, np.generic) else array
