"""What the models share: drawing weights, and the L2 penalty."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from gconv._checks import known_keys, real_number
from gconv._typing import Array
from gconv.backends import array_kind, get_backend
from gconv.layers.losses import check_class_weights, check_ignore_label

__all__ = ["Weights", "add_l2", "at_most", "check_loss_options", "float_dtype"]

_LOSS_KEYS = dict.fromkeys(("label_smoothing", "ignore_label", "class_weights")).keys()

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


def check_loss_options(
    func: str, options: dict[str, Any] | None, classes: int, dtype: np.dtype[Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a model passes on to ``softmax_loss``, and what its ``config`` keeps of that.

    Parameters
    ----------
    func : str
        The model, named in errors.
    options : dict or None
        ``label_smoothing``, ``ignore_label`` and ``class_weights``, as gconv.layers.softmax_loss takes them.
    classes : int
    dtype : dtype
        Of the weights, which are moved to the default backend once.

    Raises
    ------
    ValueError, TypeError
        For an unknown key, what is no dictionary, and as softmax_loss does.
    """
    known_keys(func, "loss_options", {} if options is None else options, _LOSS_KEYS)
    config: dict[str, Any] = dict(options or {})
    if "label_smoothing" in config:
        config["label_smoothing"] = real_number(func, "label_smoothing", config["label_smoothing"], 0, 1)
    if "ignore_label" in config:
        config["ignore_label"] = check_ignore_label(func, config["ignore_label"])
    passed = dict(config)
    weights = config.get("class_weights")
    if weights is not None:
        values = weights if array_kind(weights) is None else get_backend(weights).to_numpy(weights)
        checked = check_class_weights(func, values, classes, dtype)
        config["class_weights"] = np.asarray(values).tolist()
        passed["class_weights"] = get_backend().asarray(checked)
    return passed, {"loss_options": config} if config else {}


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
