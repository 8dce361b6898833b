"""Curves and filters for TensorBoard."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from gconv.backends import get_backend
from gconv.results.grids import filter_grid
from gconv.training.callbacks.protocol import Callback

if TYPE_CHECKING:
    from gconv.training.run import Run

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Writes losses, accuracies, the learning rate and the filters of ``W1`` for TensorBoard.

    Needs tensorboardX (``pip install "gconv[tensorboard]"``), which writes the files without TensorBoard. A training
    that is resumed goes on in the same folder; what an interrupted one wrote beyond the checkpoint is hidden.

    Parameters
    ----------
    folder : path
        Show it with ``tensorboard --logdir FOLDER``.

    Raises
    ------
    ModuleNotFoundError
        Without tensorboardX.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "TensorBoard: the log is written by tensorboardX, which is not installed: "
                "pip install 'gconv[tensorboard]'"
            ) from error
        self._make_writer, self._folder, self._written = SummaryWriter, os.fspath(folder), 0
        self._writer: Any = None

    def on_start(self, run: Run) -> None:
        """Open the log."""
        begun = run.iteration + 1 if run.iteration else None
        self._writer = self._make_writer(self._folder, purge_step=begun)
        self._written = run.iteration

    def on_eval(self, run: Run) -> None:
        """Write the losses since the last check, and the check."""
        for iteration in range(self._written, run.iteration):
            self._writer.add_scalar("loss", run.loss_history[iteration], iteration + 1)
        self._written = run.iteration
        for name, history in (
            ("accuracy/training", run.train_acc_history),
            ("accuracy/validation", run.val_acc_history),
            ("learning_rate", run.learning_rate_history),
        ):
            self._writer.add_scalar(name, history[-1], run.iteration)

    def on_epoch(self, run: Run) -> None:
        """Write the filters, where the model has some."""
        w = run.model.params.get("W1")
        if w is not None and w.ndim == 4:
            grid = filter_grid(get_backend(w).to_numpy(w))
            self._writer.add_image("filters", (grid * 255).astype(np.uint8), run.iteration, dataformats="HWC")
        self._writer.flush()

    def on_end(self, run: Run) -> None:
        """Close the log."""
        if self._writer is not None:  # another callback's on_start may have failed before ours
            self._writer.close()
