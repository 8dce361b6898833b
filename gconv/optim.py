"""Update rules: ``rule(w, dw, config) -> (next_w, config)``.

``config`` holds hyper-parameters and state; missing keys get their defaults and the same dictionary is
returned, updated. Without ``out`` the given ``w`` and state arrays are left alone and new ones made; with
``out`` (``w`` itself, or another array of its shape and dtype) the step is written there and the state
changes in place. A parameter keeps its dtype.
"""

from __future__ import annotations

from typing import Any

from gconv._typing import Array
from gconv._updates import single_step

__all__ = ["adam", "adamw", "nesterov_momentum", "rmsprop", "sgd", "sgd_momentum"]

Config = dict[str, Any]


def sgd(w: Array, dw: Array, config: Config | None = None, *, out: Array | None = None) -> tuple[Array, Config]:
    """Do stochastic gradient descent, w - learning_rate * dw.

    Parameters
    ----------
    w, dw : array, any shape
        Parameter and its gradient.
    config : dict, optional
        ``learning_rate``: 1e-2.
    out : array, optional
        Where to write the new parameter; may be ``w``.

    Returns
    -------
    next_w : array, shape of ``w``
    config : dict

    Raises
    ------
    ValueError
        If shapes differ, or a hyper-parameter is out of range.
    TypeError
        If ``w`` is not floating.

    Examples
    --------
    >>> sgd(np.ones(2), np.array([1.0, -1.0]), {"learning_rate": 0.5})[0]
    array([0.5, 1.5])
    """
    return single_step("sgd", w, dw, config, out)


def sgd_momentum(
    w: Array, dw: Array, config: Config | None = None, *, out: Array | None = None
) -> tuple[Array, Config]:
    """Do gradient descent with momentum: v = momentum * v - learning_rate * dw, w + v.

    Parameters
    ----------
    w, dw : array, any shape
        Parameter and its gradient.
    config : dict, optional
        ``learning_rate``: 1e-2; ``momentum``: 0.9, in [0, 1]; ``velocity``: array like ``w``, zeros.
    out : array, optional
        Where to write the new parameter; may be ``w``.

    Returns
    -------
    next_w : array, shape of ``w``
    config : dict
    """
    return single_step("sgd_momentum", w, dw, config, out)


def nesterov_momentum(
    w: Array, dw: Array, config: Config | None = None, *, out: Array | None = None
) -> tuple[Array, Config]:
    """Do gradient descent with Nesterov momentum, in the form that keeps the looked-ahead parameter.

    v = momentum * v - learning_rate * dw, then w + momentum * v - learning_rate * dw.

    Parameters
    ----------
    w, dw : array, any shape
        Parameter and its gradient.
    config : dict, optional
        ``learning_rate``: 1e-2; ``momentum``: 0.9, in [0, 1]; ``velocity``: array like ``w``, zeros.
    out : array, optional
        Where to write the new parameter; may be ``w``.

    Returns
    -------
    next_w : array, shape of ``w``
    config : dict

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """
    return single_step("nesterov_momentum", w, dw, config, out)


def rmsprop(w: Array, dw: Array, config: Config | None = None, *, out: Array | None = None) -> tuple[Array, Config]:
    """Divide the step by a moving root mean square: w - learning_rate * dw / (sqrt(cache) + epsilon).

    Parameters
    ----------
    w, dw : array, any shape
        Parameter and its gradient.
    config : dict, optional
        ``learning_rate``: 1e-2; ``decay_rate``: 0.99, in [0, 1]; ``epsilon``: 1e-8; ``cache``: array like
        ``w``, the moving average of dw^2, zeros.
    out : array, optional
        Where to write the new parameter; may be ``w``.

    Returns
    -------
    next_w : array, shape of ``w``
    config : dict

    References
    ----------
    Tieleman and Hinton, "Lecture 6.5: rmsprop", 2012.
    """
    return single_step("rmsprop", w, dw, config, out)


def adam(w: Array, dw: Array, config: Config | None = None, *, out: Array | None = None) -> tuple[Array, Config]:
    """Do a step of Adam, with bias correction.

    Parameters
    ----------
    w, dw : array, any shape
        Parameter and its gradient.
    config : dict, optional
        ``learning_rate``: 1e-3; ``beta1``: 0.9 and ``beta2``: 0.999, in [0, 1); ``epsilon``: 1e-8; ``m``,
        ``v``: arrays like ``w``, moving averages of dw and dw^2, zeros; ``t``: steps done, 0.
    out : array, optional
        Where to write the new parameter; may be ``w``.

    Returns
    -------
    next_w : array, shape of ``w``
    config : dict

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", 2015.
    """
    return single_step("adam", w, dw, config, out)


def adamw(w: Array, dw: Array, config: Config | None = None, *, out: Array | None = None) -> tuple[Array, Config]:
    """Do a step of Adam with decoupled weight decay: learning_rate * weight_decay * w is subtracted too.

    Parameters
    ----------
    w, dw : array, any shape
        Parameter and its gradient.
    config : dict, optional
        As for adam, and ``weight_decay``: 1e-2.
    out : array, optional
        Where to write the new parameter; may be ``w``.

    Returns
    -------
    next_w : array, shape of ``w``
    config : dict

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """
    return single_step("adamw", w, dw, config, out)
