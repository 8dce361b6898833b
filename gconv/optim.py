"""Update rules: ``rule(w, dw, config) -> (next_w, config)``.

``config`` holds hyper-parameters and state; missing keys get their defaults and the same dictionary is
returned, updated. Without ``out`` the given ``w`` and state arrays are left alone and new ones made; with
``out`` (``w`` itself, or another array of its shape and dtype) the step is written there and the state
changes in place. A parameter keeps its dtype.
"""

from __future__ import annotations

from typing import Any, Protocol

from gconv._arguments import backend_of
from gconv._typing import Array
from gconv.backends import Backend
from gconv.shapes import check_shape, common_dtype, positive_int, real_number

__all__ = ["adam", "adamw", "nesterov_momentum", "rmsprop", "sgd", "sgd_momentum"]

Config = dict[str, Any]


class UpdateRule(Protocol):
    """The signature of every rule."""

    def __call__(
        self, w: Array, dw: Array, config: Config | None = None, *, out: Array | None = None
    ) -> tuple[Array, Config]: ...


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
    step = _Step("sgd", w, dw, config, out)
    step.backend.sgd_step(step.w, step.dw, step.number("learning_rate", 1e-2), step.out)
    return step.out, step.config


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
    return _momentum("sgd_momentum", w, dw, config, out, nesterov=False)


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
    return _momentum("nesterov_momentum", w, dw, config, out, nesterov=True)


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
    step = _Step("rmsprop", w, dw, config, out)
    rate, decay = step.number("learning_rate", 1e-2), step.number("decay_rate", 0.99, 0, 1)
    epsilon = step.number("epsilon", 1e-8, 0)
    step.backend.rmsprop_step(step.w, step.dw, step.state("cache"), rate, decay, epsilon, step.out)
    return step.out, step.config


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
    return _adam(_Step("adam", w, dw, config, out), weight_decay=0.0)


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
    step = _Step("adamw", w, dw, config, out)
    return _adam(step, weight_decay=step.number("weight_decay", 1e-2, 0))


# What a Solver takes by name: these and no other attribute of the module.
UPDATE_RULES: dict[str, UpdateRule] = {
    "sgd": sgd,
    "sgd_momentum": sgd_momentum,
    "nesterov_momentum": nesterov_momentum,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}

HYPERPARAMETERS = ("learning_rate", "momentum", "decay_rate", "epsilon", "beta1", "beta2", "weight_decay")
STATE = ("velocity", "cache", "m", "v", "t")


class _Step:
    """The checked arguments of one update."""

    def __init__(self, func: str, w: Array, dw: Array, config: Config | None, out: Array | None) -> None:
        self.func, self.config = func, {} if config is None else config
        if not isinstance(self.config, dict):
            raise TypeError(f"{func}: config must be a dictionary; got {type(config).__name__}")
        unknown = [key for key in self.config if key not in (*HYPERPARAMETERS, *STATE)]
        if unknown:
            known = ", ".join((*HYPERPARAMETERS, *STATE))
            raise ValueError(f"{func}: config must have keys among {known}; got {unknown[0]!r}")
        self.backend: Backend = backend_of(func, w=w, dw=dw)
        dtype = common_dtype(func, w=w)
        common_dtype(func, w=w, dw=dw)
        check_shape(func, "dw", dw, w.shape, "of w")
        self.w, self.dw = self.backend.asarray(w, dtype), self.backend.asarray(dw, dtype)
        self.in_place = out is not None
        if out is None:
            self.out = self.backend.xp.empty(w.shape, dtype)
            return
        backend_of(func, w=w, out=out)
        check_shape(func, "out", out, w.shape, "of w")
        if out.dtype != w.dtype:
            raise TypeError(f"{func}: out must have the dtype of w, {w.dtype}; got {out.dtype}")
        self.out = out

    def number(self, key: str, default: float, low: float = 0.0, high: float = float("inf")) -> float:
        value = self.config.setdefault(key, default)
        return real_number(self.func, f"config[{key!r}]", value, low, high)

    def state(self, key: str) -> Array:
        """Return the state array that the step may write to, and store it in the config."""
        array = self.config.get(key)
        if array is None:
            array = self.backend.xp.zeros(self.w.shape, self.w.dtype)
        else:
            backend_of(self.func, w=self.w, **{f"config[{key!r}]": array})
            check_shape(self.func, f"config[{key!r}]", array, self.w.shape, "of w")
            if not self.in_place or array.dtype != self.w.dtype:
                array = array.astype(self.w.dtype)
        self.config[key] = array
        return array


def _momentum(
    func: str, w: Array, dw: Array, config: Config | None, out: Array | None, nesterov: bool
) -> tuple[Array, Config]:
    step = _Step(func, w, dw, config, out)
    rate, momentum = step.number("learning_rate", 1e-2), step.number("momentum", 0.9, 0, 1)
    step.backend.momentum_step(step.w, step.dw, step.state("velocity"), rate, momentum, nesterov, step.out)
    return step.out, step.config


def _adam(step: _Step, weight_decay: float) -> tuple[Array, Config]:
    below_one = 1 - 2**-53
    rate, epsilon = step.number("learning_rate", 1e-3), step.number("epsilon", 1e-8, 0)
    beta1, beta2 = step.number("beta1", 0.9, 0, below_one), step.number("beta2", 0.999, 0, below_one)
    t = positive_int(step.func, "config['t']", step.config.get("t", 0), minimum=0) + 1
    m, v = step.state("m"), step.state("v")
    step.backend.adam_step(step.w, step.dw, m, v, t, rate, beta1, beta2, epsilon, weight_decay, step.out)
    step.config["t"] = t
    return step.out, step.config
