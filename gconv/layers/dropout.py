"""Inverted dropout (Srivastava et al., 2014)."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv._arguments import prepare
from gconv._caches import BIAS, PARAM, opened
from gconv._checks import check_shape, known_keys, one_of, param, real_number
from gconv._memory import names_memory_errors
from gconv._typing import Array

__all__ = ["dropout_backward", "dropout_forward"]


_KEYS = dict.fromkeys(("mode", "p", "seed")).keys()


@names_memory_errors
def dropout_forward(x: Array, dropout_param: dict[str, Any]) -> tuple[Array, tuple[dict[str, Any], Array | None]]:
    """Keep each value with probability p and divide it by p; in test mode return x.

    Parameters
    ----------
    x : array, any shape
    dropout_param : dict
        ``p``: the probability to *keep* a value, in (0, 1]. ``mode``: "train" or "test". ``seed``
        (optional): an int that fixes the mask, for gradient checks; without it the mask comes from
        NumPy's global state, ``np.random.rand(*x.shape) < p``.

    Returns
    -------
    out : array, shape of ``x``
    cache : tuple
        (dropout_param, mask); the mask is already divided by p, and None in test mode.

    Raises
    ------
    ValueError
        If a key is missing or unknown, p lies outside (0, 1] or the mode is unknown.
    """
    func = "dropout_forward"
    backend, values = prepare(func, x=x)
    p = real_number(func, "dropout_param['p']", param(func, "dropout_param", dropout_param, "p"), 0, 1)
    if p == 0:
        raise ValueError(f"{func}: dropout_param['p'] must be above 0, it is the probability to keep a value; got {p}")
    mode = one_of(func, "dropout_param['mode']", param(func, "dropout_param", dropout_param, "mode"), ("train", "test"))
    known_keys(func, "dropout_param", dropout_param, _KEYS)
    if mode == "test":
        return values.copy(), (dropout_param, None)
    seed = dropout_param.get("seed")
    # A state of its own for a seed: the course seeds the global one, and so repeats every later draw.
    drawn = np.random.rand(*values.shape) if seed is None else np.random.RandomState(seed).rand(*values.shape)
    out, mask = backend.dropout_forward(values, np.asarray(drawn < p), p)
    return out, (dropout_param, mask)


@names_memory_errors
def dropout_backward(dout: Array, cache: tuple[dict[str, Any], Array | None]) -> Array:
    """Compute dx = dout * mask, or dout in test mode.

    Parameters
    ----------
    dout : array, shape of the input
    cache : tuple
        From dropout_forward.

    Returns
    -------
    dx : array, shape of the input
    """
    _, mask = opened("dropout_backward", cache, PARAM, BIAS)
    if mask is None:
        return prepare("dropout_backward", dout=dout)[1].copy()
    _, dout, mask = prepare("dropout_backward", dout=dout, mask=mask)
    check_shape("dropout_backward", "dout", dout, mask.shape, "of the input")
    return dout * mask
