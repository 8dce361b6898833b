"""From gradients to new parameters: parameter groups, the learning rate of a step, and arrays to write to."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gconv._typing import Array
from gconv._updates import (
    HYPERPARAMETERS,
    LEARNING_RATES,
    check_config,
    check_rule,
    partition,
    step_all,
    step_scalars,
)
from gconv.backends.base import StepControl
from gconv.backends.update_rules import UPDATE_RULES
from gconv.training.two_arrays import TwoArrays

__all__ = ["Group", "Optimizer", "check_optim"]

Config = dict[str, Any]
Group = tuple[Any, dict[str, Any]]


def check_optim(update_rule: Any, optim_config: Any) -> None:
    """Raise an error unless the rule and the names in its configuration exist."""
    check_rule("Solver", update_rule)
    if optim_config is not None and not isinstance(optim_config, dict):
        raise TypeError(f"Solver: optim_config must be a dictionary; got {type(optim_config).__name__}")
    _check_keys("optim_config", optim_config or {}, HYPERPARAMETERS)


def _check_keys(what: str, given: dict[str, Any], known: Sequence[str]) -> None:
    misspelt = sorted(str(key) for key in given if key not in known)
    if misspelt:
        raise ValueError(f"Solver: {what} must have keys among {', '.join(known)}; got {', '.join(misspelt)}")


class Optimizer:
    """The update rule with its parameter groups.

    Parameters
    ----------
    update_rule : str
        A key of gconv.backends.update_rules.UPDATE_RULES.
    optim_config : dict
        Hyper-parameters of all parameters.
    groups : sequence of (selector, options)
        A selector is a pattern of names, as ``"b*"``, or a function of (name, array). Options are hyper-parameters and
        ``"frozen"``; a parameter has those of every group that selects it, the last one's where they differ.
    params : dict of str to array
        The model's.
    schedule : function of (iteration, total), optional
        The factor of every learning rate.

    Raises
    ------
    ValueError, TypeError
        For groups that are none, select nothing, or have unknown options; if nothing is left to train.
    """

    def __init__(
        self,
        update_rule: str,
        optim_config: Config,
        groups: Sequence[Group],
        params: dict[str, Array],
        schedule: Callable[[int, int], float] | None = None,
    ) -> None:
        self.update_rule, self.optim_config, self.schedule = update_rule, dict(optim_config), schedule
        # What a checkpoint keeps of the groups: the options of each parameter that has some.
        self.chosen = _chosen(groups, params)
        self.frozen = frozenset(name for name, options in self.chosen.items() if options.get("frozen"))
        self.trained = [name for name in params if name not in self.frozen]
        if params and not self.trained:
            raise ValueError("Solver: groups must leave a parameter to train; got all of them frozen")
        self._initial = {
            name: {**optim_config, **{k: v for k, v in self.chosen.get(name, {}).items() if k != "frozen"}}
            for name in self.trained
        }
        for name, config in self._initial.items():
            check_config(update_rule, config, f" for parameter {name!r}")
        self._arrays = TwoArrays()

    def configs(self) -> dict[str, Config]:
        """Return each trained parameter's configuration before the first step."""
        return {name: dict(config) for name, config in self._initial.items()}

    def _base_rate(self, name: str) -> float:
        rate: float = self._initial[name].get("learning_rate", LEARNING_RATES[self.update_rule])
        return rate

    def rate(self, configs: dict[str, Config], iteration: int, total: int) -> float:
        """Return the learning rate of the step after so many iterations: that of the first parameter."""
        if not self.trained:
            return LEARNING_RATES[self.update_rule]
        name = self.trained[0]
        if self.schedule is not None:
            return self._base_rate(name) * self.schedule(iteration, total)
        rate: float = configs[name].get("learning_rate", LEARNING_RATES[self.update_rule])
        return rate

    def at(self, configs: dict[str, Config], iteration: int, total: int) -> dict[str, Config]:
        """Return the configurations of a step, each learning rate as the schedule has it."""
        if self.schedule is None:
            return configs
        factor = self.schedule(iteration, total)
        return {name: {**config, "learning_rate": self._base_rate(name) * factor} for name, config in configs.items()}

    def trained_of(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Return those of the parameters that are trained."""
        return {name: arrays[name] for name in self.trained}

    def stage(
        self,
        params: dict[str, Array],
        grads: dict[str, Array],
        configs: dict[str, Config],
        control: StepControl | None = None,
    ) -> tuple[dict[str, Array], dict[str, Config]]:
        """Compute a step beside the parameters and the states; return what both become.

        Raises
        ------
        ValueError, TypeError
            As the rule does, before anything is computed.
        """
        outs, state_outs = self._targets(params, configs)
        staged = step_all(self.update_rule, self.trained_of(params), grads, configs, outs, state_outs, control)
        return outs, staged

    def _targets(
        self, params: dict[str, Array], configs: dict[str, Config]
    ) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
        """Return the arrays that a step of these parameters and states is written to."""
        states, other = UPDATE_RULES[self.update_rule].states, self._arrays.other
        outs, state_outs = {}, {}
        for name in self.trained:
            w, config = params[name], configs[name]
            outs[name] = other(name, w, w)
            state_outs[name] = {key: other((name, key), config.get(key), w) for key in states}
        return outs, state_outs

    def unscheduled(self, configs: dict[str, Config]) -> dict[str, Config]:
        """Return the configurations with the rates that a schedule multiplies; without a schedule, as they are."""
        if self.schedule is None:
            return configs
        return {name: {**config, "learning_rate": self._base_rate(name)} for name, config in configs.items()}

    def parts(self, params: dict[str, Array], configs: dict[str, Config]) -> list[list[str]]:
        """Return the names whose update is one call of the backend, in every step, in the order of the calls."""
        return partition(self.update_rule, self.trained_of(params), self.unscheduled(configs))

    def rates(self, name: str, configs: dict[str, Config], first: int, count: int, total: int) -> list[float]:
        """Return the learning rates of one parameter in so many steps, from the one after ``first`` iterations on."""
        if self.schedule is None:
            return [configs[name].get("learning_rate", LEARNING_RATES[self.update_rule])] * count
        base = self._base_rate(name)
        return [base * self.schedule(iteration, total) for iteration in range(first, first + count)]

    def scalars(self, config: Config, rates: Sequence[float]) -> Array:
        """Return what steps of these rates read of a table, float64 (steps, 4)."""
        table = np.zeros((len(rates), 4))
        for row, values in zip(table, step_scalars(self.update_rule, config, rates), strict=True):
            row[: len(values)] = values
        return table


def _chosen(groups: Sequence[Group], params: dict[str, Array]) -> dict[str, dict[str, Any]]:
    """Return the options of each parameter that a group selects."""
    if isinstance(groups, (str, bytes)) or not isinstance(groups, Sequence):
        raise TypeError(f"Solver: groups must be a list of (selector, options); got {type(groups).__name__}")
    chosen: dict[str, dict[str, Any]] = {}
    for group in groups:
        if not isinstance(group, (tuple, list)) or len(group) != 2 or not isinstance(group[1], dict):
            raise TypeError(f"Solver: groups must be pairs of a selector and a dictionary; got {group!r:.80}")
        selector, options = group
        if not isinstance(selector, str) and not callable(selector):
            raise TypeError(f"Solver: groups must select by a pattern or a function; got {type(selector).__name__}")
        _check_keys("groups", options, (*HYPERPARAMETERS, "frozen"))
        if not isinstance(options.get("frozen", False), (bool, np.bool_)):
            raise TypeError(f"Solver: groups must have True or False for frozen; got {options['frozen']!r}")
        selects = _matcher(selector) if isinstance(selector, str) else selector
        selected = [name for name, w in params.items() if selects(name, w)]
        if not selected:
            raise ValueError(f"Solver: groups must select parameters among {', '.join(params)}; got {selector!r}")
        for name in selected:
            chosen.setdefault(name, {}).update(options)
    # Frozen or not: what is not says nothing.
    said = {name: {k: v for k, v in options.items() if k != "frozen" or v} for name, options in chosen.items()}
    return {name: options for name, options in said.items() if options}


def _matcher(pattern: str) -> Callable[[str, Array], bool]:
    return lambda name, _: fnmatch.fnmatchcase(name, pattern)
