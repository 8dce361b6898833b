"""What the models share: drawing weights, and the L2 penalty."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from gconv._typing import Array
from gconv.backends import get_backend

__all__ = ["Weights", "add_l2", "at_most", "float_dtype"]

_most_values: ContextVar[float] = ContextVar("most_values", default=math.inf)


@contextmanager
def at_most(values: int) -> Iterator[None]:
    """Refuse, inside this context, to make parameters of more than so many values: for descriptions from a file."""
    token = _most_values.set(values)
    try:
        yield
    finally:
        _most_values.reset(token)


def float_dtype(func: str, dtype: Any) -> np.dtype[Any]:
    """Return ``dtype`` if it is float32 or float64."""
    found: np.dtype[Any] = np.dtype(dtype)
    if found not in (np.float32, np.float64):
        raise TypeError(f"{func}: dtype must be float32 or float64; got {found}")
    return found


class Weights:
    """Draws weights on the host and moves them to the default backend, so that every backend starts alike.

    Parameters
    ----------
    scale : float
        Standard deviation.
    dtype : dtype
    rng : None, int or numpy.random.Generator
        None draws from NumPy's global state, ``np.random.normal(0, scale, size)``.
    """

    def __init__(self, scale: float, dtype: np.dtype[Any], rng: int | np.random.Generator | None = None) -> None:
        self._scale, self._dtype = scale, dtype
        self._draw = np.random.normal if rng is None else np.random.default_rng(rng).normal
        self._backend = get_backend()

    def normal(self, *size: int) -> Array:
        """Return normal values of mean 0."""
        if math.prod(size) > _most_values.get():
            raise ValueError(f"config must describe parameters of at most {_most_values.get()} values; got {size}")
        return self._backend.asarray(np.asarray(self._draw(0, self._scale, size)), self._dtype)

    def zeros(self, size: int) -> Array:
        """Return zeros."""
        return self._backend.xp.zeros(size, self._dtype)

    def ones(self, size: int) -> Array:
        """Return ones."""
        return self._backend.xp.ones(size, self._dtype)


def add_l2(loss: Array, grads: dict[str, Array], params: dict[str, Array], reg: float) -> Array:
    """Return loss + 0.5 * reg * (sum of squares of every W...), and add reg * W to its gradient."""
    if reg == 0:
        return loss
    names = [name for name in params if name.startswith("W")]
    backend = get_backend(*(params[name] for name in names))
    return backend.l2_penalty(loss, [params[name] for name in names], [grads[name] for name in names], reg)
