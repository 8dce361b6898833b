"""Training steps on a GPU: the data set stays there, nothing is waited for, and a step can be one graph launch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gconv._typing import Array
from gconv.backends.base import StepControl
from gconv.solver_draws import Minibatch
from gconv.solver_graph import MAX_QUEUED, StepGraphs
from gconv.solver_steps import Steps, diverged, update

if TYPE_CHECKING:
    from gconv.solver import Solver

__all__ = ["DeviceSteps"]

WARM_UP = 2  # steps before a graph: they compile kernels, and make the states and the arrays to write to


class DeviceSteps(Steps):
    """Steps on CuPy arrays.

    A loss is stored on the device, and read when ``settle`` asks, all that are new in one copy. A loss that is not
    finite sets a flag there which stops every later update, so the last finite parameters are still there then.

    With a graph, the launches of a step are captured once (twice, for the two arrays of each parameter) and
    replayed. What differs between steps, the minibatch and the scalars of the update, is drawn for all steps up to
    the next accuracy check and lies in tables on the device, whose row the step's counter picks.
    """

    def __init__(self, solver: Solver, backend: Any) -> None:
        self._solver, self._backend = solver, backend
        xp = backend.xp
        self.X, self.y = solver._resident(solver.X_train), solver._resident(solver.y_train)
        self._losses, self._stopped = xp.zeros(MAX_QUEUED), xp.zeros((), np.int64)
        self.row = xp.zeros((), np.int64)  # the step's counter, and its row in every table
        self._queued = self._read = 0  # steps since the counter was last 0, and how many losses of them were read
        self._before: list[dict[str, Array]] = []  # the parameters before each step that was not read
        self._previous: dict[str, Array] = {}
        self._done = 0  # in this call of train
        self._graphs = StepGraphs(solver, self, backend) if solver.graph else None

    def run(self) -> None:
        """Queue one step."""
        if self._queued == MAX_QUEUED:
            self.settle()
        graphs = self._graphs if self._graphs is not None and self._done >= WARM_UP else None
        step = graphs.replay if graphs is not None and graphs.usable() else self._queue
        self._before.append(dict(self._solver.model.params))
        step()
        self._queued += 1
        self._done += 1

    def settle(self) -> None:
        """Read the losses of the queued steps."""
        solver, before = self._solver, self._before
        if before:
            losses = self._backend.to_numpy(self._losses[self._read : self._queued])
            wrong = np.flatnonzero(~np.isfinite(losses))
            finite = int(wrong[0]) if len(wrong) else len(losses)
            solver.loss_history.extend(losses[:finite].tolist())
            self._read, self._before = self._queued, []
            if finite < len(losses):
                self._undo(before[finite], len(losses) - finite)
                self._check_labels()
                raise diverged(solver, float(losses[finite]), before[finite - 1] if finite else self._previous)
            self._previous = before[-1]
        if self._graphs is None or not self._graphs.rows:
            self.restart()

    def _undo(self, params: dict[str, Array], steps: int) -> None:
        """Take back what the host has counted of the last steps, which the device did not do."""
        solver = self._solver
        solver.model.params.update(params)
        solver.iteration = len(solver.loss_history)
        for config in solver.optim_configs.values():
            if "t" in config:
                config["t"] -= steps

    def _check_labels(self) -> None:
        """Raise ValueError if a label made the loss not finite: on the device labels are not looked at before."""
        labels = self._backend.to_numpy(self.y)
        classes = self._solver.model.loss(self.X[:1]).shape[1]
        wrong = labels[(labels < 0) | (labels >= classes)]
        if len(wrong):
            raise ValueError(
                f"Solver.train: data['y_train'] must hold labels in [0, {classes}); got the label {wrong[0]}"
            )

    def pending(self) -> list[Minibatch]:
        """Return the minibatches that were drawn ahead for the graph."""
        return [] if self._graphs is None else self._graphs.rows

    @property
    def queued(self) -> int:
        """How many steps there were since the counter was last 0."""
        return self._queued

    def restart(self) -> None:
        """Count from 0 again; everything queued has been read."""
        self.row.fill(0)
        self._queued = self._read = 0

    def close(self) -> None:
        """Read what is queued, and give back the minibatches that were drawn and not used."""
        self._solver.draws.ahead = self._solver.drawn_ahead()
        if self._graphs is not None:
            self._graphs.rows = []
        self.settle()
        self._solver.iteration = len(self._solver.loss_history)

    def _queue(self) -> None:
        solver, backend = self._solver, self._backend
        batch = solver.draws.minibatch(solver.X_train.shape, solver.iteration)
        chosen = backend.asarray(batch.indices)
        X = backend.gather_rows(self.X, chosen)
        if solver.augment is not None and batch.changes is not None:
            X = backend.augment(X, batch.changes, solver.augment.cutout)
        targets = solver._arrays.others(solver.model.params)
        solver._set_rate(solver._rates(solver.iteration, 1)[0])
        self.step(X, backend.gather_rows(self.y, chosen), targets)
        solver.model.params.update(targets)

    def step(self, X: Array, y: Array, targets: dict[str, Array], table: Array | None = None) -> None:
        """Queue a step on a minibatch that is on the device; ``table`` has the scalars of the update."""
        solver, backend, params = self._solver, self._backend, self._solver.model.params
        loss, grads = solver.model.loss(X, y)
        dtype = next(iter(params.values())).dtype
        backend.record_loss(backend.asarray(loss, dtype), self._losses, self.row, self._stopped)
        grads = solver._hooks.gradients(solver, grads)
        update(solver, grads, targets, StepControl(self._stopped, table, self.row))
        backend.next_step(self.row)
