"""Update rules: ``rule(w, dw, config) -> (next_w, config)``.

``config`` holds hyper-parameters and state; missing keys get their defaults and the same dictionary is
returned, updated. Without ``out`` the given ``w`` and state arrays are left alone and new ones made; with
``out`` (``w`` itself, or another array of its shape and dtype) the step is written there and the state
changes in place. A parameter keeps its dtype.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gconv._arguments import backend_of
from gconv._checks import check_shape, common_dtype, integer, one_of, param, real_number
from gconv._typing import Array
from gconv.backends import Backend
from gconv.backends.base import StepControl
from gconv.backends.update_rules import UPDATE_RULES, UpdateRule

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


# Where a config names none.
LEARNING_RATES = {name: rule.hyperparameters["learning_rate"].default for name, rule in UPDATE_RULES.items()}
HYPERPARAMETERS = tuple(dict.fromkeys(key for rule in UPDATE_RULES.values() for key in rule.hyperparameters))
STATES = tuple(dict.fromkeys(key for rule in UPDATE_RULES.values() for key in rule.states))
_KEYS = dict.fromkeys((*HYPERPARAMETERS, *STATES, "t"))


class _Parameter(NamedTuple):
    """One parameter's part in an update, checked; None for a state that is zeros."""

    backend: Backend
    w: Array
    dw: Array
    numbers: dict[str, float]
    t: int
    states: list[Array | None]


def partition(update_rule: str, params: Mapping[str, Array], configs: Mapping[str, Config]) -> list[list[str]]:
    """Group the parameters whose update one call of a backend serves.

    Parameters
    ----------
    update_rule : str
        A key of UPDATE_RULES.
    params : dict of str to array
    configs : dict of str to dict
        Each parameter's configuration.

    Returns
    -------
    list of list of str
        Names of equal dtype, backend, hyper-parameters and number of steps done, in order of first appearance.

    Raises
    ------
    ValueError, TypeError
        As the rule does.
    """
    rule = _rule("partition", update_rule)
    keys = {}
    for name, w in params.items():
        label = f" for parameter {name!r}"
        named = {f"w{label}": _with_axes(w)}
        numbers, t = _numbers(rule, param(rule.name, "configs", configs, name), label)
        keys[name] = _part(backend_of(rule.name, **named), common_dtype(rule.name, **named), numbers, t)
    return _parts(keys)


def step_all(
    update_rule: str,
    params: Mapping[str, Array],
    grads: Mapping[str, Array],
    configs: Mapping[str, Config],
    outs: Mapping[str, Array],
    state_outs: Mapping[str, Mapping[str, Array]],
    control: StepControl | None = None,
) -> dict[str, Config]:
    """Compute a step of every parameter, those of a part of ``partition`` in one call of the backend.

    Nothing is written to but ``outs`` and ``state_outs``, and nothing at all before every argument was checked. So a
    step that is given arrays of its own to write to can be abandoned half-way, with nothing changed.

    Parameters
    ----------
    update_rule : str
        A key of UPDATE_RULES.
    params : dict of str to array
        The parameters to update; ``grads`` and ``configs`` may have more names.
    grads, outs : dict of str to array
        Their gradients, and where the new parameters are written, which may be the parameters.
    configs : dict of str to dict
        Each parameter's configuration and state; left alone.
    state_outs : dict of str to dict of str to array
        Where the new states are written, as ``state_outs["W1"]["velocity"]``; may be those of ``configs``. A rule
        without states needs no entry.
    control : StepControl, optional
        Where the backend finds a step's scalars, those of part i in ``table[:, i]``, and whether it is to do nothing.

    Returns
    -------
    dict of str to dict
        What each parameter's configuration becomes: hyper-parameters with defaults, the arrays of ``state_outs``, and
        the number of steps.

    Raises
    ------
    ValueError, TypeError
        As the rule does, with the name of the parameter.
    """
    rule = _rule("step_all", update_rule)
    checked = {
        name: _checked(
            *(rule, w, param(rule.name, "grads", grads, name), param(rule.name, "configs", configs, name)),
            f" for parameter {name!r}",
        )
        for name, w in params.items()
    }
    targets: dict[str, tuple[Array, list[Array]]] = {}
    for name, parameter in checked.items():
        label, out = f" for parameter {name!r}", param(rule.name, "outs", outs, name)
        _check_out(rule, f"out{label}", parameter, out)
        given = param(rule.name, "state_outs", state_outs, name) if rule.states else {}
        new_states = [param(rule.name, f"state_outs{label}", given, key) for key in rule.states]
        for key, array in zip(rule.states, new_states, strict=True):
            _check_out(rule, f"state_outs[{key!r}]{label}", parameter, array)
        targets[name] = out, new_states
    keys = {name: _part(p.backend, p.w.dtype, p.numbers, p.t) for name, p in checked.items()}
    for group, names in enumerate(_parts(keys)):
        chosen = None if control is None else control._replace(group=group)
        _run(rule, [checked[name] for name in names], [targets[name] for name in names], chosen)
    return {
        name: {**parameter.numbers, **configs[name], **_after(rule, parameter, targets[name][1])}
        for name, parameter in checked.items()
    }


def check_config(update_rule: str, config: Config) -> None:
    """Raise ValueError or TypeError unless a step could be done with the numbers in ``config``."""
    _numbers(_rule("check_config", update_rule), config, "")


def step_scalars(
    update_rule: str, config: Config, rates: Sequence[float], first_t: int | None = None
) -> list[tuple[float, ...]]:
    """Return what a table of a StepControl holds of steps to come.

    Parameters
    ----------
    update_rule : str
        A key of UPDATE_RULES.
    config : dict
        Hyper-parameters, and ``t`` where the rule counts.
    rates : sequence of float
        The learning rate of each step.
    first_t : int, optional
        The number of the first of these steps, from 1; else that of the next one, t + 1.

    Returns
    -------
    list of tuple of float
        Of each step, four numbers at most.
    """
    rule = _rule("step_scalars", update_rule)
    numbers, t = _numbers(rule, config, "")
    first = t + 1 if first_t is None else first_t
    return [rule.scalars({**numbers, "learning_rate": rate}, first + i) for i, rate in enumerate(rates)]


def _part(backend: Backend, dtype: np.dtype[Any], numbers: dict[str, float], t: int) -> tuple[Any, ...]:
    """Return what the parameters of one part have in common."""
    return dtype, id(backend), *numbers.values(), t


def _parts(keys: dict[str, tuple[Any, ...]]) -> list[list[str]]:
    """Group names of equal keys."""
    parts: dict[tuple[Any, ...], list[str]] = {}
    for name, key in keys.items():
        parts.setdefault(key, []).append(name)
    return list(parts.values())


def _rule(func: str, name: str) -> UpdateRule:
    return UPDATE_RULES[one_of(func, "update_rule", name, tuple(UPDATE_RULES))]


def _single(func: str, w: Array, dw: Array, config: Config | None, out: Array | None) -> tuple[Array, Config]:
    """Do a step of one parameter, as the course's functions do."""
    rule, config = UPDATE_RULES[func], {} if config is None else config
    parameter = _checked(rule, w, dw, config, "")
    if out is not None:
        _check_out(rule, "out", parameter, out)
    xp, w = parameter.backend.xp, parameter.w
    written = xp.empty(w.shape, w.dtype) if out is None else out
    # With `out` the states change in place, unless they had another dtype.
    new_states = [
        xp.empty(w.shape, w.dtype) if out is None or array is None or array is not config.get(key) else array
        for key, array in zip(rule.states, parameter.states, strict=True)
    ]
    _run(rule, [parameter], [(written, new_states)], None)
    for key, number in parameter.numbers.items():
        config.setdefault(key, number)
    config.update(_after(rule, parameter, new_states))
    return written, config


def _checked(rule: UpdateRule, w: Array, dw: Array, config: Config, label: str) -> _Parameter:
    func = rule.name
    numbers, t = _numbers(rule, config, label)
    w, dw = _with_axes(w), _with_axes(dw)
    named = {f"w{label}": w, f"dw{label}": dw}
    backend, dtype = backend_of(func, **named), common_dtype(func, **{f"w{label}": w})
    if dw.dtype != dtype:
        common_dtype(func, **named)
    check_shape(func, f"dw{label}", dw, w.shape, "of w")
    w, dw = backend.asarray(w, dtype), backend.asarray(dw, dtype)
    states: list[Array | None] = []
    for key in rule.states:
        array = config.get(key)
        if array is not None:
            array = _with_axes(array)
            if type(array) is not type(w) or array.shape != w.shape:
                name = f"config[{key!r}]{label}"
                backend_of(func, **{f"w{label}": w, name: array})
                check_shape(func, name, array, w.shape, "of w")
            array = array if array.dtype == dtype else array.astype(dtype)
        states.append(array)
    return _Parameter(backend, w, dw, numbers, t, states)


def _with_axes(array: Array) -> Array:
    """Return what an operation on NumPy arrays without axes gave, a scalar, as the array that it stands for."""
    return np.asarray(array) if isinstance(array, np.generic) else array


def _numbers(rule: UpdateRule, config: Config, label: str) -> tuple[dict[str, float], int]:
    """Return the rule's hyper-parameters, with defaults, and the number of steps done."""
    func = rule.name
    if not isinstance(config, dict):
        raise TypeError(f"{func}: config{label} must be a dictionary; got {type(config).__name__}")
    if not config.keys() <= _KEYS.keys():
        unknown = next(key for key in config if key not in _KEYS)
        raise ValueError(f"{func}: config{label} must have keys among {', '.join(_KEYS)}; got {unknown!r}")
    numbers = {}
    for key, (default, low, high) in rule.hyperparameters.items():
        value = config.get(key, default)
        # Most are right, and cost no name.
        right = type(value) is float and low <= value <= high and math.isfinite(value)
        numbers[key] = value if right else real_number(func, f"config[{key!r}]{label}", value, low, high)
    done = integer(func, f"config['t']{label}", config.get("t", 0), 0) if rule.counts_steps else 0
    return numbers, done


def _check_out(rule: UpdateRule, name: str, parameter: _Parameter, out: Array) -> None:
    w = parameter.w
    if type(out) is not type(w):
        backend_of(rule.name, w=w, **{name: out})
    check_shape(rule.name, name, out, w.shape, "of w")
    if out.dtype.type is not w.dtype.type:
        raise TypeError(f"{rule.name}: {name} must have the dtype of w, {w.dtype}; got {out.dtype}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError(f"{rule.name}: {name} must be an array that can be written to; got a read-only one")


def _run(
    rule: UpdateRule,
    parameters: list[_Parameter],
    targets: list[tuple[Array, list[Array]]],
    control: StepControl | None,
) -> None:
    """Do the step of parameters that share backend, dtype, hyper-parameters and number of steps."""
    backend, _, _, numbers, t, _ = parameters[0]
    states: list[list[Array]] = [
        [backend.xp.zeros(p.w.shape, p.w.dtype) if p.states[i] is None else p.states[i] for p in parameters]
        for i in range(len(rule.states))
    ]
    outs, new_states = [out for out, _ in targets], [[new[i] for _, new in targets] for i in range(len(rule.states))]
    ws, dws = [p.w for p in parameters], [p.dw for p in parameters]
    scalars, constants = rule.scalars(numbers, t + 1), rule.constants(numbers)
    backend.update(rule, ws, dws, states, scalars, constants, outs, new_states, control)


def _after(rule: UpdateRule, parameter: _Parameter, new_states: list[Array]) -> Config:
    """Return what a step changes in a config."""
    after: Config = dict(zip(rule.states, new_states, strict=True))
    return {**after, "t": parameter.t + 1} if rule.counts_steps else after
