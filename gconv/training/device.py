"""Training steps on a GPU: the data set stays there, nothing is waited for, and a step can be one graph launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gconv._typing import Array
from gconv.backends import Backend
from gconv.backends.base import StepControl
from gconv.training.batches import Batches
from gconv.training.divergence import NOT_UNDONE, UNDONE, diverged
from gconv.training.hooks import Hooks
from gconv.training.model import buffers_of, check_loss, ignored_label
from gconv.training.moments import Change, Item, Moment
from gconv.training.optimizer import Optimizer
from gconv.training.run import Run
from gconv.training.steps import Steps
from gconv.training.two_arrays import TwoArrays

__all__ = ["MAX_QUEUED", "DeviceSteps", "Queued"]

MAX_QUEUED = 1024  # steps that are drawn ahead, and whose losses may wait on the device


class Queued(NamedTuple):
    """What a queued step will have written: new parameters, configurations with new states, new buffers."""

    params: dict[str, Array]
    configs: dict[str, dict[str, Any]]
    buffers: dict[str, Array]


class DeviceSteps(Steps):
    """Steps that are queued.

    A loss is stored on the device, and read when ``settle`` asks, all that are new in one copy. A loss that is not
    finite sets a flag there which stops every later update, so what stood before it is still there then.

    Attributes
    ----------
    X, y : array
        The training data, on the device.
    row : int64 array, shape ()
        The step's counter on the device, and its row in every table.
    first : int
        The iteration whose row is 0.
    """

    def __init__(
        self, run: Run, batches: Batches, optimizer: Optimizer, hooks: Hooks, total: int, backend: Backend
    ) -> None:
        super().__init__(run, batches, optimizer, hooks, total)
        self._backend, xp = backend, backend.xp
        self.X, self.y = batches.resident("X_train", backend), batches.resident("y_train", backend)
        self._losses, self._stopped = xp.zeros(MAX_QUEUED), xp.zeros((), np.int64)
        self._zero, self.row, self.first = xp.zeros((), np.int64), xp.zeros((), np.int64), run.iteration
        self._moments: dict[int, Moment] = {}  # by iteration, before each step that was not read, and the one before
        if run.before_step is not None:
            self._moments[run.iteration - 1] = run.before_step
        self._buffer_arrays = TwoArrays()
        self._copy_buffers = True  # before a step: a model may write to them

    def step(self, due: tuple[Item, ...], until_check: Callable[[], int]) -> None:
        """Queue one step."""
        run = self._run
        if run.iteration - self.first == MAX_QUEUED:
            self.settle()
        moment = run.begin(self._draws_more, self._copy_buffers)
        try:
            rate = self._optimizer.rate(run.optim_configs, run.iteration, self._schedule_end)
            run.forget_step_before()
            queued = self._next(until_check)
            self._moments[run.iteration] = moment
            fields = {"iteration": run.iteration + 1, "step_rate": rate, "due": due}
            run.commit(Change(queued.params, queued.configs, queued.buffers, {}, fields))
        except BaseException:
            run.recover()
            raise

    def _next(self, until_check: Callable[[], int]) -> Queued:
        """Queue the next step."""
        run, backend = self._run, self._backend
        batch = self._minibatch()
        X = backend.gather_step_rows(self.X, backend.asarray(batch.indices[None]), self._zero)
        y = backend.gather_step_rows(self.y, backend.asarray(batch.indices[None]), self._zero)
        if batch.changes is not None:
            X = self._batches.augment_step(backend, X, backend.asarray(batch.changes[None]), self._zero)
        configs = self._optimizer.at(run.optim_configs, run.iteration, self._schedule_end)
        return self.queue(X, y, configs, None)

    def queue(self, X: Array, y: Array, configs: dict[str, dict[str, Any]], table: Array | None) -> Queued:
        """Queue a step of the model as it is, on a minibatch that is on the device.

        Parameters
        ----------
        X, y : array
            Samples and labels.
        configs : dict
            The update rule's numbers and states.
        table : float64 array, shape (steps, parts, 4), or None
            Has the scalars of each part's update, in the row of the step; None takes those of ``configs``.
        """
        backend, model = self._backend, self._run.model
        before = buffers_of(model)
        loss, grads = check_loss(model.loss(X, y))
        dtype = model.params[self._optimizer.trained[0]].dtype
        backend.record_loss(backend.asarray(loss, dtype), self._losses, self.row, self._stopped)
        control = StepControl(self._stopped, table, self.row, 0)
        params, changed = self._optimizer.stage(model.params, self._gradients(grads), configs, control)
        # A step after a loss that was not finite computes averages of what is none: they must not be kept.
        fresh = {name: a for name, a in buffers_of(model).items() if before.get(name) is not a}
        kept = {name: self._buffer_arrays.other(name, before.get(name), a) for name, a in fresh.items()}
        if kept:
            backend.assign(list(kept.values()), list(fresh.values()), self._stopped)
        backend.next_step(self.row)
        return Queued(params, changed, {**buffers_of(model), **kept})

    def settle(self) -> None:
        """Read the losses of the queued steps."""
        run = self._run
        read, queued = len(run.loss_history), run.iteration
        if read < queued:
            losses = self._backend.to_numpy(self._losses[read - self.first : queued - self.first])
            wrong = np.flatnonzero(~np.isfinite(losses))
            if len(wrong):
                self._diverge(read + int(wrong[0]), float(losses[wrong[0]]), losses.tolist())
            run.loss_history[read:] = losses.tolist()
            self._moments = {at: moment for at, moment in self._moments.items() if at >= queued - 1}
        if not self._planned():
            self.restart()

    def _planned(self) -> bool:
        """Return whether tables on the device have rows of steps to come."""
        return False

    def _diverge(self, iteration: int, loss: float, losses: list[float]) -> None:
        """Undo the step before the one whose loss was not finite, and all after it, which the device did not do."""
        run, moments = self._run, self._moments
        rate = self._optimizer.rate(moments[iteration].configs, iteration, self._schedule_end)
        before = moments.get(iteration - 1)
        run.loss_history[len(run.loss_history) :] = losses
        run.abandon_to(moments[iteration] if before is None else before)
        self._moments, self.first = {}, run.iteration
        self._check_labels()
        what = f"the loss must be finite; got {loss}"
        raise run.diverge(diverged(what, iteration + 1, rate, NOT_UNDONE if before is None else UNDONE))

    def _check_labels(self) -> None:
        """Raise ValueError if a label made the loss not finite: on the device labels are not looked at before."""
        labels = self._backend.to_numpy(self.y)
        classes = self._run.model.loss(self.X[:1].copy()).shape[1]
        wrong = labels[((labels < 0) | (labels >= classes)) & (labels != ignored_label(self._run.model))]
        if len(wrong):
            raise ValueError(
                f"Solver.train: data['y_train'] must hold labels in [0, {classes}); got the label {wrong[0]}"
            )

    def restart(self) -> None:
        """Count from 0 again; everything queued has been read."""
        self.row.fill(0)
        self.first = self._run.iteration

    def close(self) -> None:
        """Read what is queued."""
        self.settle()
