"""One training step after another: on the host, where each loss is looked at when it is there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gconv._typing import Array
from gconv.training.batches import Batches
from gconv.training.divergence import NOT_UNDONE, UNDONE, diverged
from gconv.training.draws import Minibatch
from gconv.training.hooks import Hooks
from gconv.training.model import check_gradients, check_loss, draws_nothing
from gconv.training.moments import Change, Item
from gconv.training.optimizer import Optimizer
from gconv.training.run import Run

__all__ = ["HostSteps", "Steps"]


class Steps:
    """What a loop asks of its steps; each commits loss, parameters, states, buffers and position together.

    Parameters
    ----------
    total : int
        Where a schedule ends.
    """

    def __init__(self, run: Run, batches: Batches, optimizer: Optimizer, hooks: Hooks, total: int) -> None:
        self._run, self._batches, self._optimizer, self._hooks = run, batches, optimizer, hooks
        self._schedule_end = total
        # Whether a step may draw more than its minibatch.
        self._draws_more = not (draws_nothing(run.model) and hooks.capturable)

    def step(self, due: tuple[Item, ...], until_check: Callable[[], int]) -> None:
        """Do one step, or queue it.

        Parameters
        ----------
        due : tuple of Item
            What is to be done after it.
        until_check : function
            How many steps there are up to the next accuracy check, this one counted.
        """
        raise NotImplementedError

    def settle(self) -> None:
        """Bring the run's ``loss_history`` up to date; raise FloatingPointError if a loss was not finite."""

    def close(self) -> None:
        """End, also in the middle of a step."""

    def _minibatch(self) -> Minibatch:
        run = self._run
        return run.draws.minibatch(self._batches.X_train.shape, run.iteration - run.epoch_start)

    def _gradients(self, grads: dict[str, Any]) -> dict[str, Array]:
        """Return the gradients of what is trained, as the callbacks leave them."""
        params = self._optimizer.trained_of(self._run.model.params)
        found = check_gradients("grads", params, grads)
        if not self._hooks.on_gradients:
            return found
        return check_gradients("what on_gradients returned", params, self._hooks.gradients(self._run, found))


class HostSteps(Steps):
    """Steps on NumPy arrays."""

    def step(self, due: tuple[Item, ...], until_check: Callable[[], int]) -> None:
        """Do one step."""
        run, optimizer = self._run, self._optimizer
        moment = run.begin(self._draws_more)
        try:
            X, y = self._batches.take(self._minibatch())
            loss, grads = check_loss(run.model.loss(X, y))
            value = float(loss)
            if math.isfinite(value):
                grads = self._gradients(grads)
                configs = optimizer.at(run.optim_configs, run.iteration, self._schedule_end)
                rate = optimizer.rate(run.optim_configs, run.iteration, self._schedule_end)
                run.forget_step_before()
                params, changed = optimizer.stage(run.model.params, grads, configs)
                fields = {"iteration": run.iteration + 1, "step_rate": rate, "due": due}
                run.commit(Change(params, changed, None, {"loss_history": (moment.position[0], value)}, fields))
                return
            rate = optimizer.rate(run.optim_configs, run.iteration, self._schedule_end)
            run.recover()
        except BaseException:
            run.recover()
            raise
        left = UNDONE if run.undo_step() else NOT_UNDONE
        raise diverged(f"the loss must be finite; got {value}", moment.position[0] + 1, rate, left)
