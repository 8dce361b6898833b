"""A Solver's state as its checkpoints have it, without a file."""

from gconv.training.checkpoints import expected_of
from gconv.training.snapshots import decode


def capture(solver):
    return solver._loop("test").run.snapshot()


def restore(solver, path, arrays, description):
    solver._loop("test")
    expected = expected_of(solver.run, solver.batches, solver.optimizer, solver.hooks, solver.augment)
    solver.run.restore(decode(path, arrays, description, expected))


def last(solver):
    """The parameters that training goes on from."""
    return solver.run.last_state()[0]
