"""gconv.solver, and histories in a file for the homework's log."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

from gconv import solver as _solver
from gconv.files import write_atomically

__all__ = ["Solver"]


class Solver(_solver.Solver):
    """gconv's Solver, which can also write its histories."""

    def record_histories_as_npz(self, filename: str | os.PathLike[str]) -> None:
        """Write ``train_losses``, ``train_accs`` and ``val_accs``, float64, to a file of NumPy.

        Parameters
        ----------
        filename : path
            ``.npz`` is added where it does not end so, as np.savez does. Missing folders are made.

        Raises
        ------
        OSError
            If it can't be written; what stood there is then as it was.
        """
        histories: dict[str, Any] = {
            "train_losses": np.array(self.loss_history, dtype=np.float64),
            "train_accs": np.array(self.train_acc_history, dtype=np.float64),
            "val_accs": np.array(self.val_acc_history, dtype=np.float64),
        }
        content = io.BytesIO()
        np.savez(content, **histories)
        name = os.fspath(filename)
        write_atomically(name if name.endswith(".npz") else f"{name}.npz", content.getvalue())
