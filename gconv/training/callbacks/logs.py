"""Logs of a training as files: one row an accuracy check.

The file is written anew and renamed at each check: it is always whole, and a resumed training has no row twice. Where
that fails a warning says so, and training goes on.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gconv.files import warn_if_unwritten, write_atomically
from gconv.training.callbacks.protocol import Callback

if TYPE_CHECKING:
    from gconv.training.run import Run

__all__ = ["CSVLog", "JSONLinesLog"]


def rows(run: Run) -> Iterator[dict[str, Any]]:
    """Yield what is known of each accuracy check; the loss is the mean over the iterations since the one before."""
    done = 0
    checks = zip(
        run.eval_iterations,
        run.train_acc_history,
        run.val_acc_history,
        run.learning_rate_history,
        strict=True,
    )
    for iteration, train_acc, val_acc, learning_rate in checks:
        yield {
            "iteration": iteration,
            "epoch": iteration / run.iterations_per_epoch,
            "loss": float(np.mean(run.loss_history[done:iteration])),
            "train_acc": train_acc,
            "val_acc": val_acc,
            "learning_rate": learning_rate,
        }
        done = iteration


class _Log(Callback):
    """A file of all rows.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    def on_eval(self, run: Run) -> None:
        """Write the file."""
        with warn_if_unwritten(f"the log {self._path}"):
            write_atomically(self._path, self._text(list(rows(run))).encode())

    def _text(self, records: list[dict[str, Any]]) -> str:
        raise NotImplementedError


class CSVLog(_Log):
    """Writes iteration, epoch, loss, train_acc, val_acc and learning_rate as comma-separated values.

    Parameters
    ----------
    path : path
    """

    def _text(self, records: list[dict[str, Any]]) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return text.getvalue()


class JSONLinesLog(_Log):
    """Writes one JSON object a line, with the same names as CSVLog; NaN where there is nothing to validate on.

    Parameters
    ----------
    path : path
    """

    def _text(self, records: list[dict[str, Any]]) -> str:
        return "".join(json.dumps(record) + "\n" for record in records)
