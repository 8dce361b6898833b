"""Checkpoints under one name each, beside the Solver's one an epoch.

One that can't be written is a warning: the file before it stays, and training goes on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gconv._checks import positive_int
from gconv.files import warn_if_unwritten
from gconv.training.callbacks.protocol import Callback

if TYPE_CHECKING:
    from gconv.training.run import Run

__all__ = ["BestCheckpoint", "LastCheckpoint", "StopCheckpoint"]


class BestCheckpoint(Callback):
    """Writes a checkpoint whenever the validation accuracy is the best so far.

    Parameters
    ----------
    path : path
        The one file, written over. ``solver.resume(path)`` goes on from it.
    """

    needs_validation = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    def on_eval(self, run: Run) -> None:
        """Write the file if the check that was just made is the best."""
        *before, latest = run.val_acc_history
        if all(latest > accuracy for accuracy in before):
            with warn_if_unwritten(f"the checkpoint {self._path}"):
                run.save(self._path)


class StopCheckpoint(Callback):
    """Writes a checkpoint when the training is stopped, before the accuracy check that follows a stop.

    Going on from it is bit-identical to a training that was never stopped. It must be the last of the callbacks.

    Parameters
    ----------
    path : path
        The file, written over.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._written: int | None = None  # the iteration

    def on_iteration(self, run: Run) -> None:
        """Write the file if this was the last iteration."""
        if run.stopped is not None and self._written != run.iteration:
            self._written = run.iteration
            with warn_if_unwritten(f"the checkpoint {self._path}"):
                run.save(self._path)

    on_eval = on_epoch = on_iteration


class LastCheckpoint(Callback):
    """Writes a checkpoint after an epoch, and at the end.

    A training that ends with an exception ends without.

    Parameters
    ----------
    path : path
        The one file, written over. ``solver.resume(path)`` goes on from it, also from the middle of an epoch.
    every : int
        Of so many epochs one is written.

    Raises
    ------
    ValueError, TypeError
        For ``every`` below 1.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        self._path, self._every = path, positive_int("LastCheckpoint", "every", every)

    def on_epoch(self, run: Run) -> None:
        """Write the file."""
        if run.epoch % self._every == 0:
            with warn_if_unwritten(f"the checkpoint {self._path}"):
                run.save(self._path)

    def on_end(self, run: Run) -> None:
        """Write the file."""
        if run.failure is None:
            with warn_if_unwritten(f"the checkpoint {self._path}"):
                run.save(self._path)
