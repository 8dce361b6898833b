"""One training step after another: on the host, where each loss is looked at when it is there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gconv._typing import Array
from gconv.backends import Backend, get_backend
from gconv.backends.base import StepControl
from gconv.backends.update_rules import UPDATE_RULES
from gconv.optim import step_all
from gconv.solver_draws import Minibatch

if TYPE_CHECKING:
    from gconv.solver import Solver

__all__ = ["HostSteps", "Steps", "TwoArrays", "diverged", "model_backend", "update"]


def model_backend(model: Any) -> Backend:
    """Return the backend of a model's parameters; the default one for a model without."""
    return get_backend(*model.params.values())


class TwoArrays:
    """Two arrays a parameter, written to in turn, and never one that somebody else holds.

    A step then needs no new memory, and the parameters of the last finite loss are still there when the next one
    is not.
    """

    def __init__(self) -> None:
        self._pairs: dict[str, list[Array]] = {}

    def others(self, params: dict[str, Array]) -> dict[str, Array]:
        """Return, for each parameter, the array of its pair that it is not."""
        return {name: self._other(name, w) for name, w in params.items()}

    def _other(self, name: str, w: Array) -> Array:
        pair = self._pairs.get(name, [])
        for array in pair:
            if array is not w and array.shape == w.shape and array.dtype == w.dtype:
                return array
        fresh = get_backend(w).xp.empty(w.shape, w.dtype)
        self._pairs[name] = [*[a for a in pair if a is w], fresh]
        return fresh


class Steps:
    """What a Solver asks of its steps."""

    def run(self) -> None:
        """Do one step, or queue it."""
        raise NotImplementedError

    def pending(self) -> list[Minibatch]:
        """Return the minibatches that were drawn ahead, in turn."""
        return []

    def settle(self) -> None:
        """Bring ``solver.loss_history`` up to date; raise FloatingPointError if a loss was not finite."""

    def close(self) -> None:
        """End, also in the middle of a step."""


class HostSteps(Steps):
    """Steps on NumPy arrays."""

    def __init__(self, solver: Solver) -> None:
        self._solver = solver
        self._previous: dict[str, Array] = {}

    def run(self) -> None:
        """Do one step."""
        solver, params = self._solver, self._solver.model.params
        batch = solver.draws.minibatch(solver.X_train.shape, solver.iteration)
        X, y = (get_backend(data).gather_rows(data, batch.indices) for data in (solver.X_train, solver.y_train))
        if solver.augment is not None and batch.changes is not None:
            X = get_backend(X).augment(X, batch.changes, solver.augment.cutout)
        loss, grads = solver.model.loss(X, y)
        value = float(loss)
        if not math.isfinite(value):
            raise diverged(solver, value, self._previous)
        solver.loss_history.append(value)
        grads = solver._hooks.gradients(solver, grads)
        solver._set_rate(solver._rates(solver.iteration, 1)[0])
        updated = solver._arrays.others(params)
        update(solver, grads, updated)
        self._previous = dict(params)
        params.update(updated)


def update(solver: Solver, grads: dict[str, Array], outs: dict[str, Array], control: StepControl | None = None) -> None:
    """Write the next parameters to ``outs``; the optimiser's states change in place."""
    params, configs = solver.model.params, solver.optim_configs
    states: dict[str, dict[str, Array]] = {}
    for name, w in params.items():
        held = {key: configs[name].get(key) for key in UPDATE_RULES[solver.update_rule].states}
        states[name] = {key: get_backend(w).xp.zeros(w.shape, w.dtype) if a is None else a for key, a in held.items()}
    for name, config in step_all(solver.update_rule, params, grads, configs, outs, states, control).items():
        configs[name].update(config)


def diverged(solver: Solver, loss: float, previous: dict[str, Array]) -> FloatingPointError:
    """Return the error of a loss that is not finite, after putting the parameters before it into the model."""
    rates = (config["learning_rate"] for config in solver.optim_configs.values() if "learning_rate" in config)
    solver.model.params.update(previous)
    solver._last = dict(solver.model.params)
    return FloatingPointError(
        f"Solver.train: the loss must be finite; got {loss} at iteration {len(solver.loss_history) + 1} with learning "
        f"rate {next(rates, 'the default')}. model.params are the last ones with a finite loss; try a smaller "
        "learning rate"
    )
