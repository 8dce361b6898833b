"""Ending a training early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gconv._checks import positive_int, real_number
from gconv.training.callbacks.protocol import Callback

if TYPE_CHECKING:
    from gconv.training.run import Run

__all__ = ["EarlyStopping", "TimeLimit"]


@dataclass(frozen=True)
class EarlyStopping(Callback):
    """Ends the training when the validation accuracy has stopped rising.

    The Solver leaves the best parameters in the model anyway, so there is nothing to restore.

    Parameters
    ----------
    patience : int
        Accuracy checks in a row without a better one.
    min_delta : float
        How much above the best so far counts as better.

    Raises
    ------
    ValueError, TypeError
        For a patience below 1, or a negative min_delta.
    """

    patience: int = 5
    min_delta: float = 0.0
    needs_validation: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive_int("EarlyStopping", "patience", self.patience)
        real_number("EarlyStopping", "min_delta", self.min_delta, 0)

    def on_eval(self, run: Run) -> None:
        """Count from the history alone, so that a resumed training stops where an uninterrupted one does."""
        best, waited = -1.0, 0
        for accuracy in run.val_acc_history:
            if accuracy > best + self.min_delta:
                best, waited = accuracy, 0
            else:
                waited += 1
        if waited >= self.patience:
            run.stop(f"no better validation accuracy than {best:.4f} in {waited} checks")

    on_resume = on_eval


@dataclass(frozen=True)
class TimeLimit(Callback):
    """Ends the training after so many seconds, those of the runs it was resumed from counted.

    Parameters
    ----------
    seconds : float

    Raises
    ------
    ValueError, TypeError
        For a negative number, or none.
    """

    seconds: float

    def __post_init__(self) -> None:
        real_number("TimeLimit", "seconds", self.seconds, 0)

    def on_iteration(self, run: Run) -> None:
        """Look at the clock; on a GPU up to 1,024 steps may be queued, which are still done."""
        if run.seconds >= self.seconds:
            run.stop(f"the time limit of {self.seconds:g} s")

    on_resume = on_iteration
