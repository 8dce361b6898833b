"""A training step captured as a CUDA graph, and replayed for every minibatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gconv._typing import Array
from gconv.backends import Backend
from gconv.backends.update_rules import UPDATE_RULES
from gconv.training.batches import Batches
from gconv.training.device import MAX_QUEUED, DeviceSteps, Queued
from gconv.training.hooks import Hooks
from gconv.training.model import buffers_of, write_buffers
from gconv.training.moments import Item
from gconv.training.optimizer import Optimizer
from gconv.training.run import Run

__all__ = ["GraphSteps"]

WARM_UP = 2  # steps before a graph: they load kernels, and make the states and the arrays to write to

Configs = dict[str, dict[str, Any]]


class Side(NamedTuple):
    """A graph, what it reads, and what it will have written."""

    graph: Any
    source: Queued
    after: Queued


class GraphSteps(DeviceSteps):
    """Queued steps that are replayed.

    The launches of a step are captured twice, once for each array of the pairs that a step reads and writes. A graph
    has fixed addresses: of the data, of tables with minibatches and scalars of the steps to come up to the next
    accuracy check, whose row the step's counter picks, of parameters, states and buffers, and of temporary arrays in
    a memory pool of its own.
    """

    def __init__(
        self,
        run: Run,
        batches: Batches,
        optimizer: Optimizer,
        hooks: Hooks,
        total: int,
        backend: Backend,
        required: bool,
    ) -> None:
        super().__init__(run, batches, optimizer, hooks, total, backend)
        self._required = required
        self._refused = not required and self._draws_more
        self._eager = WARM_UP  # so many steps come before a graph
        self._pause = 1
        self._left: Configs = {}  # the configurations that the last step has left
        self._rates: list[list[float]] = []  # of each part of the update, in the steps to come
        self._parts: list[list[str]] = []
        self._indices = self._changes = self._table = self._recorder = None  # type: Any
        self._captured: dict[Any, tuple[Side, list[Array]]] = {}
        self._sides: list[Side] = []  # in turn

    def step(self, due: tuple[Item, ...], until_check: Callable[[], int]) -> None:
        """Queue one step."""
        if self._sides and self._was_changed():
            self._leave(self._pause)
            # Whoever does so may do it again, and capturing takes longer than a few steps.
            self._pause *= 2
        super().step(due, until_check)
        configs = self._run.optim_configs
        self._left = {name: dict(config) for name, config in configs.items()} if self._sides else {}

    def _was_changed(self) -> bool:
        """Return whether a callback has changed what is in a graph: arrays, or numbers that no table has."""
        run, source = self._run, self._sides[0].source
        if any(run.model.params[name] is not w for name, w in source.params.items()):
            return True
        buffers = buffers_of(run.model)
        if buffers.keys() != source.buffers.keys() or any(buffers[name] is not a for name, a in source.buffers.items()):
            return True
        return any(
            config.get(key) is not value
            for name, config in run.optim_configs.items()
            for key, value in self._left.get(name, {}).items()
            if key != "learning_rate"
        )

    def _leave(self, steps: int) -> None:
        """Do so many steps without a graph: other arrays are not ours to write to."""
        self._sides, self._rates, self._eager, self._copy_buffers = [], [], steps, True
        self.settle()

    def _next(self, until_check: Callable[[], int]) -> Queued:
        """Queue the next step, as a replay where that can be."""
        if not self._refused and not self._eager and self._usable(until_check):
            return self._replay()
        self._eager = max(self._eager - 1, 0)
        return super()._next(until_check)

    def _planned(self) -> bool:
        return bool(self._rates and self._rates[0])

    def _usable(self, until_check: Callable[[], int]) -> bool:
        """Return whether the next step can be a replay; captures what is missing, and draws minibatches.

        Raises
        ------
        RuntimeError
            With the Solver's ``graph=True`` if the step can't be captured; with "auto" the answer is no.
        """
        if self._planned():
            return True
        self.settle()
        try:
            self._prepare()
        except Exception as error:  # whatever the model's code met with that can't be captured
            if self._required:
                raise RuntimeError(f"Solver: graph=True needs a step that can be captured; got: {error}") from error
            self._refused = True
            # The step writes to arrays that nobody returns to.
            write_buffers(self._run.model, {name: a.copy() for name, a in buffers_of(self._run.model).items()})
            self._leave(0)
            return False
        self._plan(min(until_check(), MAX_QUEUED))
        return True

    def _prepare(self) -> None:
        """Have tables, and the graphs of both sides."""
        xp, run = self._backend.xp, self._run
        parts = self._optimizer.parts(run.model.params, run.optim_configs)
        if self._recorder is None:
            self._recorder = self._backend.graph_recorder()
            if self._recorder is None:
                raise ValueError("the backend has no graphs")
            self._indices = xp.zeros((MAX_QUEUED, run.draws.size(len(self._batches.X_train))), np.int64)
            if self._batches.augmented:
                self._changes = xp.zeros((*self._indices.shape, 5), np.int32)
        if self._table is None or parts != self._parts:
            self._parts, self._table = parts, xp.zeros((MAX_QUEUED, len(parts), 4))
        self._sides = self._both_sides()
        # A buffer that the model does not replace may be written to.
        self._copy_buffers = any(
            side.after.buffers.get(name) is array for side in self._sides for name, array in side.source.buffers.items()
        )

    def _plan(self, count: int) -> None:
        """Draw so many minibatches, and put them and the scalars of their steps on the device."""
        run, upload = self._run, self._backend.upload
        positions = range(run.iteration - run.epoch_start, run.iteration - run.epoch_start + count)
        batches = run.draws.look_ahead(self._batches.X_train.shape, positions)
        upload(self._indices[:count], np.stack([batch.indices for batch in batches]).astype(np.int64))
        if self._changes is not None:
            changes = [batch.changes for batch in batches if batch.changes is not None]
            upload(self._changes[:count], np.stack(changes))
        self._plan_rates(count)

    def _plan_rates(self, count: int) -> None:
        run, end = self._run, self._schedule_end
        configs, first = run.optim_configs, run.iteration - self.first
        rates = [self._optimizer.rates(part[0], configs, run.iteration, count, end) for part in self._parts]
        rows = [self._optimizer.scalars(configs[p[0]], r) for p, r in zip(self._parts, rates, strict=True)]
        self._backend.upload(self._table[first : first + count], np.stack(rows, axis=1))
        self._rates = rates

    def _replay(self) -> Queued:
        run, optimizer = self._run, self._optimizer
        if optimizer.schedule is None and self._rates_were_changed():
            count = len(self._rates[0])
            if optimizer.parts(run.model.params, run.optim_configs) != self._parts:
                self._prepare()
            self._plan_rates(count)
        side = self._sides[0]
        run.draws.minibatch(self._batches.X_train.shape, run.iteration - run.epoch_start)  # the row on the device
        side.graph.launch()
        self._sides.reverse()
        states = UPDATE_RULES[optimizer.update_rule].states
        configs: Configs = {}
        for part, rates in zip(self._parts, self._rates, strict=True):
            rate = rates.pop(0)
            for name in part:
                t = {"t": run.optim_configs[name]["t"] + 1} if "t" in run.optim_configs[name] else {}
                after = {state: side.after.configs[name][state] for state in states}
                configs[name] = {"learning_rate": rate, **after, **t}
        return Queued(side.after.params, configs, side.after.buffers)

    def _rates_were_changed(self) -> bool:
        """Return whether a callback has set a rate since the steps to come were planned."""
        configs = self._run.optim_configs
        return any(
            configs[name]["learning_rate"] != rates[0]
            for part, rates in zip(self._parts, self._rates, strict=True)
            for name in part
        )

    # Capturing --------------------------------------------------------------------------------------

    def _both_sides(self) -> list[Side]:
        run = self._run
        here = Queued(dict(run.model.params), run.optim_configs, buffers_of(run.model))
        side = self._side(here)
        there = Queued({**here.params, **side.after.params}, side.after.configs, side.after.buffers)
        return [side, self._side(there)]

    def _side(self, source: Queued) -> Side:
        rule = UPDATE_RULES[self._optimizer.update_rule]
        configs = self._optimizer.unscheduled(source.configs)
        arrays = [*source.params.values(), *source.buffers.values(), self._table]
        arrays += [config[state] for config in configs.values() for state in rule.states]
        # The learning rate is in the table; the other numbers are in the launches.
        numbers = [configs[name].get(key) for name in configs for key in rule.hyperparameters if key != "learning_rate"]
        key = (*numbers, str(self._parts), *map(id, arrays))
        if key not in self._captured:
            # The arrays are kept with the graph: their addresses are in it.
            self._captured[key] = self._capture(source, configs), arrays
        return self._captured[key][0]

    def _capture(self, source: Queued, configs: Configs) -> Side:
        backend, model = self._backend, self._run.model
        before = Queued(dict(model.params), {}, buffers_of(model))
        random, after = np.random.get_state(legacy=True), []  # type: Any, list[Queued]

        def step() -> None:
            X = backend.gather_step_rows(self.X, self._indices, self.row)
            y = backend.gather_step_rows(self.y, self._indices, self.row)
            if self._changes is not None:
                X = self._batches.augment_step(backend, X, self._changes, self.row)
            after.append(self.queue(X, y, configs, self._table))

        model.params.update(source.params)
        write_buffers(model, source.buffers)
        try:
            graph = self._recorder.record(step)
        finally:
            # Nothing was computed: the host must not have drawn for it.
            drawn = not _same_state(random, np.random.get_state(legacy=True))
            np.random.set_state(random)
            model.params.update(before.params)
            write_buffers(model, before.buffers)
        if drawn:
            raise ValueError("the model draws random numbers on the host, which a replay would not")
        return Side(graph, source, after[0])


def _same_state(a: Any, b: Any) -> bool:
    return bool(a[0] == b[0] and (a[1] == b[1]).all() and a[2:] == b[2:])
