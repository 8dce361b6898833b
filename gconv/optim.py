"""Update rules: ``rule(w, dw, config) -> (next_w, config)``.

``config`` holds hyper-parameters and state; missing keys get their defaults and the same dictionary is
returned, updated. Without ``out`` the given ``w`` and state arrays are left alone and new ones made; with
``out`` (``w`` itself, or another array of its shape and dtype) the step is written there and the state
changes in place. A parameter keeps its dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gconv._arguments import backend_of
from gconv._checks import check_shape, common_dtype, positive_int, real_number
from gconv._typing import Array
from gconv.backends import Backend
from gconv.backends.base import adam_scalars

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
    return _single("sgd", w, dw, config, out)


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
    return _single("sgd_momentum", w, dw, config, out)


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
    return _single("nesterov_momentum", w, dw, config, out)


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
    return _single("rmsprop", w, dw, config, out)


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
    return _single("adam", w, dw, config, out)


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
    return _single("adamw", w, dw, config, out)


# What a Solver takes by name: these and no other attribute of the module.
UPDATE_RULES: dict[str, UpdateRule] = {
    "sgd": sgd,
    "sgd_momentum": sgd_momentum,
    "nesterov_momentum": nesterov_momentum,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}

# Where the config names none.
LEARNING_RATES = {name: 1e-3 if name.startswith("adam") else 1e-2 for name in UPDATE_RULES}

HYPERPARAMETERS = ("learning_rate", "momentum", "decay_rate", "epsilon", "beta1", "beta2", "weight_decay")
STATE = ("velocity", "cache", "m", "v", "t")
_KEYS = frozenset((*HYPERPARAMETERS, *STATE))
_STATES: dict[str, tuple[str, ...]] = {
    "sgd": (),
    "sgd_momentum": ("velocity",),
    "nesterov_momentum": ("velocity",),
    "rmsprop": ("cache",),
    "adam": ("m", "v"),
    "adamw": ("m", "v"),
}


class _Step:
    """The checked arguments of one update."""

    def __init__(self, func: str, w: Array, dw: Array, config: Config | None, out: Array | None) -> None:
        self.func, self.config = func, {} if config is None else config
        if not isinstance(self.config, dict):
            raise TypeError(f"{func}: config must be a dictionary; got {type(config).__name__}")
        if not self.config.keys() <= _KEYS:
            unknown = next(key for key in self.config if key not in _KEYS)
            known = ", ".join((*HYPERPARAMETERS, *STATE))
            raise ValueError(f"{func}: config must have keys among {known}; got {unknown!r}")
        self.backend: Backend = backend_of(func, w=w, dw=dw)
        dtype = common_dtype(func, w=w)
        common_dtype(func, w=w, dw=dw)
        check_shape(func, "dw", dw, w.shape, "of w")
        self.w, self.dw = self.backend.asarray(w, dtype), self.backend.asarray(dw, dtype)
        self.in_place = out is not None
        if out is not None:
            backend_of(func, w=w, out=out)
            check_shape(func, "out", out, w.shape, "of w")
            if out.dtype != w.dtype:
                raise TypeError(f"{func}: out must have the dtype of w, {w.dtype}; got {out.dtype}")
        self.out = self.backend.xp.empty(w.shape, dtype) if out is None else out
        self.scalars = self._numbers()

    def _numbers(self) -> tuple[float, ...]:
        """Return the rule's hyper-parameters in the order the backend takes them, checked and with defaults."""
        rate = self.number("learning_rate", LEARNING_RATES[self.func])
        if self.func == "sgd":
            return (rate,)
        if self.func in ("sgd_momentum", "nesterov_momentum"):
            return rate, self.number("momentum", 0.9, 0, 1)
        if self.func == "rmsprop":
            return rate, self.number("decay_rate", 0.99, 0, 1), self.number("epsilon", 1e-8, 0)
        below_one = 1 - 2**-53
        t = positive_int(self.func, "config['t']", self.config.get("t", 0), minimum=0) + 1
        betas = self.number("beta1", 0.9, 0, below_one), self.number("beta2", 0.999, 0, below_one)
        epsilon = self.number("epsilon", 1e-8, 0)
        return t, rate, *betas, epsilon, self.number("weight_decay", 1e-2, 0) if self.func == "adamw" else 0.0

    def number(self, key: str, default: float, low: float = 0.0, high: float = float("inf")) -> float:
        value = self.config.setdefault(key, default)
        return real_number(self.func, f"config[{key!r}]", value, low, high)

    def state(self, key: str) -> Array:
        """Return the state array that the step may write to, and store it in the config."""
        array = self.config.get(key)
        if array is None:
            array = self.backend.xp.zeros(self.w.shape, self.w.dtype)
        else:
            if type(array) is not type(self.w) or array.shape != self.w.shape:
                name = f"config[{key!r}]"
                backend_of(self.func, w=self.w, **{name: array})
                check_shape(self.func, name, array, self.w.shape, "of w")
            if not self.in_place or array.dtype != self.w.dtype:
                array = array.astype(self.w.dtype)
        self.config[key] = array
        return array


def update_all(
    update_rule: str,
    params: dict[str, Array],
    grads: dict[str, Array],
    configs: dict[str, Config],
    outs: dict[str, Array],
) -> None:
    """Do one step of a rule on every parameter, those of equal hyper-parameters in one call of the backend.

    Parameters
    ----------
    update_rule : str
        A key of UPDATE_RULES.
    params, grads, outs : dict of str to array
        Parameters, their gradients, and where the new parameters are written.
    configs : dict of str to dict
        Each parameter's configuration and state, updated in place.

    Raises
    ------
    ValueError, TypeError
        As the rule does.
    """
    groups: dict[Any, list[_Step]] = {}
    for name, w in params.items():
        step = _Step(update_rule, w, grads[name], configs[name], outs[name])
        groups.setdefault((step.w.dtype, id(step.backend), step.scalars), []).append(step)
    for steps in groups.values():
        _run(steps)


def check_config(update_rule: str, config: Config) -> None:
    """Raise ValueError or TypeError unless a step could be done with the numbers in ``config``."""
    w = np.zeros(1)
    _Step(update_rule, w, w, {key: value for key, value in config.items() if key not in _STATES[update_rule]}, None)


def rule_scalars(update_rule: str, config: Config, rates: Sequence[float]) -> list[tuple[float, ...]]:
    """Return what changes from step to step, for a step with each learning rate, as the backends' kernels take it."""
    if update_rule not in ("adam", "adamw"):
        return [(rate,) for rate in rates]
    decay = config["weight_decay"] if update_rule == "adamw" else 0.0
    first = config["t"] + 1
    return [adam_scalars(t, rate, config["beta1"], config["beta2"], decay) for t, rate in enumerate(rates, first)]


def _single(func: str, w: Array, dw: Array, config: Config | None, out: Array | None) -> tuple[Array, Config]:
    step = _Step(func, w, dw, config, out)
    _run([step])
    return step.out, step.config


def _run(steps: list[_Step]) -> None:
    """Do steps that share their rule and their hyper-parameters."""
    func, backend = steps[0].func, steps[0].backend
    scalars: Any = steps[0].scalars
    ws, dws, outs = ([getattr(step, name) for step in steps] for name in ("w", "dw", "out"))
    states: Any = [[step.state(key) for step in steps] for key in _STATES[func]]
    if func == "sgd":
        (rate,) = scalars
        backend.sgd_step(ws, dws, rate, outs)
    elif func in ("sgd_momentum", "nesterov_momentum"):
        rate, momentum = scalars
        backend.momentum_step(ws, dws, states[0], rate, momentum, func == "nesterov_momentum", outs)
    elif func == "rmsprop":
        rate, decay, epsilon = scalars
        backend.rmsprop_step(ws, dws, states[0], rate, decay, epsilon, outs)
    else:
        t, rate, beta1, beta2, epsilon, decay = scalars
        backend.adam_step(ws, dws, states[0], states[1], t, rate, beta1, beta2, epsilon, decay, outs)
        for step in steps:
            step.config["t"] = t
