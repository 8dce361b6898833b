"""Steps of update rules with their configurations: checked in full first, then computed beside what is given.

``config`` holds a parameter's hyper-parameters and state, as gconv.optim describes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gconv._arguments import backend_of, with_axes
from gconv._checks import check_shape, common_dtype, integer, known_keys, one_of, param, real_number
from gconv._typing import Array
from gconv.backends import Backend
from gconv.backends.base import StepControl
from gconv.backends.update_rules import UPDATE_RULES, UpdateRule

__all__ = [
    "HYPERPARAMETERS",
    "LEARNING_RATES",
    "check_config",
    "check_rule",
    "partition",
    "single_step",
    "step_all",
    "step_scalars",
]

Config = dict[str, Any]

# Where a config names none.
LEARNING_RATES = {name: rule.hyperparameters["learning_rate"].default for name, rule in UPDATE_RULES.items()}
HYPERPARAMETERS = tuple(dict.fromkeys(key for rule in UPDATE_RULES.values() for key in rule.hyperparameters))
STATES = tuple(dict.fromkeys(key for rule in UPDATE_RULES.values() for key in rule.states))
_KEYS = dict.fromkeys((*HYPERPARAMETERS, *STATES, "t")).keys()

# What other roots know: rules, and keys of a config.
RULES_ELSEWHERE = {
    "sgd_nesterov_momentum": "nesterov_momentum here; that name is of gconv.courses.ucla, its optim and solver",
    "momentum": "sgd_momentum here; that name is of gconv.courses.cs231n_2015.classifier_trainer",
}
KEYS_ELSEWHERE = {"a": "the moving average of dw^2 in gconv.courses.ucla.optim; here rmsprop's cache, adam's v"}


class _Parameter(NamedTuple):
    """One parameter's part in an update, checked; None for a state that is zeros."""

    backend: Backend
    w: Array
    dw: Array
    numbers: dict[str, float]
    t: int
    states: list[Array | None]

    def shares_a_call_with(self, other: _Parameter) -> bool:
        """Return whether one call of a backend can update both."""
        same = self.backend is other.backend and self.w.dtype == other.w.dtype
        return same and self.t == other.t and self.numbers == other.numbers


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
    return _parts(
        {name: _checked(rule, w, w, {**param(rule.name, "configs", configs, name)}, name) for name, w in params.items()}
    )


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
    checked: dict[str, _Parameter] = {}
    targets: dict[str, tuple[Array, list[Array]]] = {}
    like: _Parameter | None = None
    for name, w in params.items():
        try:
            dw, config, out = grads[name], configs[name], outs[name]
            new_states = [state_outs[name][key] for key in rule.states]
        except (KeyError, TypeError):
            _require_keys(rule, name, grads, configs, outs, state_outs)
            raise
        like = checked[name] = _checked(rule, w, dw, config, name, like)
        targets[name] = out, new_states
        kind, dtype, shape = type(like.w), like.w.dtype, like.w.shape
        for array in (out, *new_states):
            if type(array) is not kind or array.dtype is not dtype or array.shape != shape or not _writeable(array):
                _refuse_target(rule, name, like, out, new_states)
    for part, names in enumerate(_parts(checked)):
        chosen = None if control is None else control._replace(part=part)
        _run(rule, [checked[name] for name in names], [targets[name] for name in names], chosen)
    return {
        name: {**parameter.numbers, **configs[name], **_after(rule, parameter, targets[name][1])}
        for name, parameter in checked.items()
    }


def check_config(update_rule: str, config: Config, whose: str = "") -> None:
    """Raise ValueError or TypeError, with ``whose`` in its text, unless a step could be done with these numbers."""
    _numbers(_rule("check_config", update_rule), config, whose)


def step_scalars(update_rule: str, config: Config, rates: Sequence[float]) -> list[tuple[float, ...]]:
    """Return what a table of a StepControl holds of steps to come.

    Parameters
    ----------
    update_rule : str
        A key of UPDATE_RULES.
    config : dict
        Hyper-parameters, and ``t`` where the rule counts.
    rates : sequence of float
        The learning rate of each step.

    Returns
    -------
    list of tuple of float
        Of each step, four numbers at most.
    """
    rule = _rule("step_scalars", update_rule)
    numbers, t = _numbers(rule, config, "")
    return [rule.scalars({**numbers, "learning_rate": rate}, t + 1 + i) for i, rate in enumerate(rates)]


def _parts(parameters: Mapping[str, _Parameter]) -> list[list[str]]:
    """Group the names of parameters that can be updated together, in order of first appearance."""
    parts: list[tuple[_Parameter, list[str]]] = []
    for name, parameter in parameters.items():
        for first, names in parts:
            if parameter.shares_a_call_with(first):
                names.append(name)
                break
        else:
            parts.append((parameter, [name]))
    return [names for _, names in parts]


def check_rule(func: str, name: Any) -> str:
    """Return the name of an update rule if it is one, else raise ValueError."""
    rule: str = one_of(func, "update_rule", name, tuple(UPDATE_RULES), RULES_ELSEWHERE)
    return rule


def _rule(func: str, name: str) -> UpdateRule:
    return UPDATE_RULES[check_rule(func, name)]


def _require_keys(rule: UpdateRule, name: str, grads: Any, configs: Any, outs: Any, state_outs: Any) -> None:
    """Raise an error that names what a parameter has no entry in."""
    for what, given in (("grads", grads), ("configs", configs), ("outs", outs)):
        param(rule.name, what, given, name)
    for key in rule.states:
        param(rule.name, f"state_outs for parameter {name!r}", param(rule.name, "state_outs", state_outs, name), key)


def _checked(
    rule: UpdateRule, w: Array, dw: Array, config: Config, name: str | None, like: _Parameter | None = None
) -> _Parameter:
    """Return the arguments of an update, ``name`` being the parameter's; ``like`` is what it most often is like."""
    func, label = rule.name, "" if name is None else f" for parameter {name!r}"
    numbers, t = _numbers(rule, config, label)
    w, dw = with_axes(w), with_axes(dw)
    if like is not None and type(w) is type(like.w) and w.dtype is like.w.dtype:
        backend, dtype = like.backend, w.dtype
    else:
        named = {f"w{label}": w}
        backend, dtype = backend_of(func, **named), common_dtype(func, **named)
        w = backend.asarray(w, dtype)
    kind, shape = type(w), w.shape
    if type(dw) is not kind or dw.dtype is not dtype or dw.shape != shape:
        named = {f"w{label}": w, f"dw{label}": dw}
        backend_of(func, **named)
        common_dtype(func, **named)
        check_shape(func, f"dw{label}", dw, shape, "of w")
        dw = backend.asarray(dw, dtype)
    states: list[Array | None] = []
    for key in rule.states:
        array = config.get(key)
        if array is not None and (type(array) is not kind or array.shape != shape or array.dtype is not dtype):
            array, what = with_axes(array), f"config[{key!r}]{label}"
            if type(array) is not kind:
                backend_of(func, **{f"w{label}": w, what: array})
            check_shape(func, what, array, shape, "of w")
            array = array.astype(dtype, copy=False)
        states.append(array)
    return _Parameter(backend, w, dw, numbers, t, states)


def _writeable(array: Array) -> bool:
    return type(array) is not np.ndarray or array.flags.writeable


def _numbers(rule: UpdateRule, config: Config, label: str) -> tuple[dict[str, float], int]:
    """Return the rule's hyper-parameters, with defaults, and the number of steps done."""
    func = rule.name
    if not isinstance(config, dict):
        raise TypeError(f"{func}: config{label} must be a dictionary; got {type(config).__name__}")
    known_keys(func, f"config{label}", config, _KEYS, KEYS_ELSEWHERE)
    numbers = {}
    for key, (default, low, high) in rule.hyperparameters.items():
        value = config.get(key, default)
        # Most are right, and cost no name.
        right = type(value) is float and low <= value <= high and math.isfinite(value)
        numbers[key] = value if right else real_number(func, f"config[{key!r}]{label}", value, low, high)
    if not rule.counts_steps:
        return numbers, 0
    done = config.get("t", 0)
    right = type(done) is int and done >= 0
    return numbers, done if right else integer(func, f"config['t']{label}", done, 0)


def _refuse_target(rule: UpdateRule, name: str, parameter: _Parameter, out: Array, new_states: list[Array]) -> None:
    """Raise the error of what can't be written to, if there is one."""
    _check_out(rule, f"out for parameter {name!r}", parameter, out)
    for key, array in zip(rule.states, new_states, strict=True):
        _check_out(rule, f"state_outs[{key!r}] for parameter {name!r}", parameter, array)


def _check_out(rule: UpdateRule, name: str, parameter: _Parameter, out: Array) -> None:
    w = parameter.w
    if type(out) is not type(w):
        backend_of(rule.name, w=w, **{name: out})
    check_shape(rule.name, name, out, w.shape, "of w")
    if out.dtype.type is not w.dtype.type:
        raise TypeError(f"{rule.name}: {name} must have the dtype of w, {w.dtype}; got {out.dtype}")
    if not _writeable(out):
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


def single_step(func: str, w: Array, dw: Array, config: Config | None, out: Array | None) -> tuple[Array, Config]:
    """Do a step of one parameter, as the course's functions do."""
    rule, config = UPDATE_RULES[func], {} if config is None else config
    parameter = _checked(rule, w, dw, config, None)
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
