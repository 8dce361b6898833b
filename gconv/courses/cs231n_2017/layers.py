"""gconv.layers, with the dropout of that time."""

from __future__ import annotations

from typing import Any

from gconv import layers as _layers
from gconv._checks import param, real_number
from gconv._typing import Array
from gconv.layers import *  # noqa: F403

__all__ = list(_layers.__all__)


def dropout_forward(  # type: ignore[no-redef]
    x: Array, dropout_param: dict[str, Any]
) -> tuple[Array, tuple[dict[str, Any], Array | None]]:
    """Drop each value with probability p and divide the others by 1 - p; in test mode return x.

    Parameters
    ----------
    x : array, any shape
    dropout_param : dict
        ``p``: the probability to *drop* a value, in [0, 1). ``mode`` and ``seed`` as in gconv.layers.

    Returns
    -------
    out : array, shape of ``x``
    cache : tuple
        For gconv.layers.dropout_backward.

    Raises
    ------
    ValueError
        If a key is missing, p lies outside [0, 1) or the mode is unknown.
    """
    func = "dropout_forward"
    p = real_number(func, "dropout_param['p']", param(func, "dropout_param", dropout_param, "p"), 0, 1)
    if p == 1:
        raise ValueError(f"{func}: dropout_param['p'] must be below 1, it is the probability to drop a value; got {p}")
    return _layers.dropout_forward(x, {**dropout_param, "p": 1 - p})
