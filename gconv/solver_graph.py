"""A training step captured as a CUDA graph, and replayed for every minibatch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gconv._typing import Array
from gconv.optim import HYPERPARAMETERS, step_scalars
from gconv.solver_draws import Minibatch

if TYPE_CHECKING:
    from gconv.solver import Solver

__all__ = ["MAX_QUEUED", "StepGraphs"]

MAX_QUEUED = 1024  # steps that are drawn ahead, and whose losses may wait on the device


class StepGraphs:
    """The two graphs of a solver's step, one for each array of the parameters' pairs.

    A graph has fixed addresses: of the data, of tables with the minibatches and scalars of the steps to come, of
    parameters and states, and of temporary arrays in a memory pool of its own.
    """

    def __init__(self, solver: Solver, steps: Any, backend: Any) -> None:
        self._solver, self._steps, self._backend = solver, steps, backend
        self.rows: list[Minibatch] = []  # minibatches that were drawn and not yet used
        self._rates: list[float] = []  # the learning rates of their steps
        self._indices = self._draws = self._table = None  # type: Any
        self._recorder: Any = None
        self._captured: dict[Any, Any] = {}
        self._sides: list[tuple[Any, dict[str, Array]]] = []  # (graph, parameters after it), in turn
        self._refused = False
        required = solver.graph is True
        known = getattr(solver.model, "capturable", False) and solver._hooks.capturable
        if not required and not known:
            self._refused = True

    def usable(self) -> bool:
        """Return whether the next step can be a replay; captures what is missing, and draws minibatches.

        Raises
        ------
        RuntimeError
            With the Solver's ``graph=True`` if the step can't be captured; with "auto" the answer is no.
        """
        if self._refused or self.rows:
            return not self._refused
        try:
            self._require_one_group()
            self._make_tables()
            self._sides = self._both_sides()
        except Exception as error:  # whatever the model's code met with that can't be captured
            if self._solver.graph is True:
                raise RuntimeError(f"Solver: graph=True needs a step that can be captured; got: {error}") from error
            self._refused = True
            return False
        self._draw()
        return True

    def replay(self) -> None:
        """Queue one step."""
        graph, after = self._sides[0]
        self._set_rate()
        graph.launch()
        self._sides.reverse()
        self.rows.pop(0)
        self._solver.model.params.update(after)
        for config in self._solver.optim_configs.values():
            if "t" in config:
                config["t"] += 1

    def _set_rate(self) -> None:
        """Say what the step's learning rate is; where a callback has set another one, the steps to come get it."""
        solver = self._solver
        if not solver.scheduled:
            rate = next(iter(solver.optim_configs.values()))["learning_rate"]
            if rate != self._rates[0]:
                self._rates = [rate] * len(self._rates)
                self._write_scalars(self._steps.queued)
        solver._set_rate(self._rates.pop(0))

    def _write_scalars(self, first: int) -> None:
        """Put the scalars of the steps to come into the table, from the row ``first`` on."""
        config = next(iter(self._solver.optim_configs.values()))
        scalars = np.zeros((len(self._rates), 4))
        for row, values in zip(scalars, step_scalars(self._solver.update_rule, config, self._rates), strict=True):
            row[: len(values)] = values
        self._backend.upload(self._table[first : first + len(scalars), 0], scalars)

    def _require_one_group(self) -> None:
        numbers = [
            {key: config.get(key) for key in (*HYPERPARAMETERS, "t")} for config in self._solver.optim_configs.values()
        ]
        dtypes = {w.dtype for w in self._solver.model.params.values()}
        if any(other != numbers[0] for other in numbers) or len(dtypes) > 1:
            raise ValueError("all parameters must have the same hyper-parameters and dtype")

    def _make_tables(self) -> None:
        if self._table is None:
            xp = self._backend.xp
            self._indices = xp.zeros((MAX_QUEUED, self._minibatch_size()), np.int64)
            if self._solver.augment is not None:
                self._draws = xp.zeros((MAX_QUEUED, self._minibatch_size(), 5), np.int32)
            self._table = xp.zeros((MAX_QUEUED, 1, 4))
            self._recorder = self._backend.graph_recorder()

    def _minibatch_size(self) -> int:
        solver = self._solver
        # a permutation has no more samples than the data
        return solver.batch_size if solver.sampling == "replacement" else min(solver.batch_size, len(self._steps.X))

    def _draw(self) -> None:
        """Draw the minibatches up to the next accuracy check, and put them and their steps' scalars on the device."""
        solver, steps = self._solver, self._steps
        steps.settle()
        steps.restart()
        count = min(solver._until_check(), MAX_QUEUED)
        self.rows = [solver.draws.minibatch(solver.X_train.shape, solver.iteration + i) for i in range(count)]
        self._rates = solver._rates(solver.iteration, count)
        self._write_scalars(0)
        self._backend.upload(self._indices[:count], np.stack([row.indices for row in self.rows]).astype(np.int64))
        if self._draws is not None:
            changes = np.stack([row.changes for row in self.rows if row.changes is not None])
            self._backend.upload(self._draws[:count], changes)

    def _both_sides(self) -> list[tuple[Any, dict[str, Array]]]:
        here = dict(self._solver.model.params)
        there = self._solver._arrays.others(here)
        return [(self._graph(here, there), there), (self._graph(there, here), here)]

    def _graph(self, source: dict[str, Array], target: dict[str, Array]) -> Any:
        solver = self._solver
        states = [value for config in solver.optim_configs.values() for value in config.values()]
        arrays = [*source.values(), *target.values(), *(a for a in states if getattr(a, "shape", ()))]
        config = next(iter(solver.optim_configs.values()))
        # The learning rate is in the table; the others are in the launches.
        numbers = tuple(config.get(name) for name in HYPERPARAMETERS if name != "learning_rate")
        key = (*numbers, *(a.data.ptr for a in arrays))
        if key not in self._captured:
            # The arrays are kept with the graph: their addresses are in it.
            self._captured[key] = self._capture(source, target), arrays
        return self._captured[key][0]

    def _capture(self, source: dict[str, Array], target: dict[str, Array]) -> Any:
        solver, steps, backend, model = self._solver, self._steps, self._backend, self._solver.model
        before, buffers = dict(model.params), dict(getattr(model, "buffers", {}))
        configs = {name: dict(config) for name, config in solver.optim_configs.items()}
        random = np.random.get_state(legacy=True)

        def step() -> None:
            X = backend.gather_step_rows(steps.X, self._indices, steps.row)
            y = backend.gather_step_rows(steps.y, self._indices, steps.row)
            if self._draws is not None and solver.augment is not None:
                X = backend.augment_step(X, self._draws, steps.row, solver.augment.cutout)
            steps.step(X, y, target, self._table)
            for name, array in getattr(model, "buffers", {}).items():
                buffers[name][...] = array

        model.params.update(source)
        try:
            graph = self._recorder.record(step)
        finally:
            # Nothing was computed: the host must not have counted a step, nor drawn for it.
            drawn = not _same_state(random, np.random.get_state(legacy=True))
            np.random.set_state(random)
            model.params.update(before)
            for name, config in configs.items():
                solver.optim_configs[name].update(config)
            if buffers:
                model.buffers = buffers
        if drawn:
            raise ValueError("the model draws random numbers on the host, which a replay would not")
        return graph


def _same_state(a: Any, b: Any) -> bool:
    return bool(a[0] == b[0] and (a[1] == b[1]).all() and a[2:] == b[2:])
