"""Learning-rate schedules: each multiplies the Solver's learning rate with a factor of the iteration.

``total``, the end of a schedule, is the Solver's ``num_epochs`` in iterations. Trained beyond it, the last factor
stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gconv._checks import positive_int, real_number
from gconv.training.callbacks.protocol import Callback

if TYPE_CHECKING:
    from gconv.training.run import Run

__all__ = ["CosineSchedule", "OneCycleSchedule", "ReduceOnPlateau", "StepSchedule", "WarmUp"]


@dataclass(frozen=True)
class StepSchedule(Callback):
    """Multiplies the learning rate with ``factor`` every so many iterations.

    Parameters
    ----------
    every : int
        Iterations; ``5 * solver.iterations_per_epoch`` for every five epochs.
    factor : float
        In [0, 1].

    Raises
    ------
    ValueError, TypeError
        For numbers out of range.
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        positive_int("StepSchedule", "every", self.every)
        real_number("StepSchedule", "factor", self.factor, 0, 1)

    def learning_rate_factor(self, iteration: int, total: int) -> float:
        """Return factor ** (iteration // every)."""
        return self.factor ** (iteration // self.every)


@dataclass(frozen=True)
class CosineSchedule(Callback):
    """Lowers the learning rate along half a cosine, from the whole to ``final`` of it at the end.

    Parameters
    ----------
    final : float
        In [0, 1].

    Raises
    ------
    ValueError, TypeError
        For a number out of range.

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017; one period of it.
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        real_number("CosineSchedule", "final", self.final, 0, 1)

    def learning_rate_factor(self, iteration: int, total: int) -> float:
        """Return final + (1 - final) * (1 + cos(pi * iteration / total)) / 2."""
        return _cosine(1.0, self.final, _share(iteration, total))


@dataclass(frozen=True)
class OneCycleSchedule(Callback):
    """Raises the learning rate to the whole along a cosine, then lowers it to almost nothing.

    Parameters
    ----------
    rise : float
        Share of the iterations in which it rises, in [0, 1].
    initial, final : float
        Of the learning rate, at the beginning and at the end.

    Raises
    ------
    ValueError, TypeError
        For numbers out of range.

    References
    ----------
    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018.
    """

    rise: float = 0.3
    initial: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        for name in ("rise", "initial", "final"):
            real_number("OneCycleSchedule", name, getattr(self, name), 0, 1)

    def learning_rate_factor(self, iteration: int, total: int) -> float:
        """Return the factor: initial, 1 after the share ``rise``, final at the end."""
        at = _share(iteration, total)
        if at < self.rise:
            return _cosine(self.initial, 1.0, at / self.rise)
        return _cosine(1.0, self.final, (at - self.rise) / (1 - self.rise) if self.rise < 1 else 1.0)


@dataclass(frozen=True)
class WarmUp(Callback):
    """Raises the learning rate linearly over the first iterations, then follows another schedule.

    Parameters
    ----------
    iterations : int
    then : schedule, optional
        Takes over for the rest, counting from the end of the warm-up; by default the rate stays.

    Raises
    ------
    ValueError, TypeError
        For numbers out of range, or a ``then`` without ``learning_rate_factor``.

    Examples
    --------
    >>> schedule = WarmUp(4, then=CosineSchedule())
    >>> [round(schedule.learning_rate_factor(i, 8), 3) for i in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.854, 0.5, 0.146]
    """

    iterations: int
    then: Callback | None = None

    def __post_init__(self) -> None:
        positive_int("WarmUp", "iterations", self.iterations)
        if self.then is not None and not hasattr(self.then, "learning_rate_factor"):
            raise TypeError(f"WarmUp: then must have a method learning_rate_factor; got {type(self.then).__name__}")

    def learning_rate_factor(self, iteration: int, total: int) -> float:
        """Return (iteration + 1) / iterations during the warm-up."""
        if iteration < self.iterations:
            return (iteration + 1) / self.iterations
        if self.then is None:
            return 1.0
        factor: float = self.then.learning_rate_factor(  # type: ignore[attr-defined]
            iteration - self.iterations, max(total - self.iterations, 1)
        )
        return factor


@dataclass(frozen=True)
class ReduceOnPlateau(Callback):
    """Multiplies the learning rate with ``factor`` when the validation accuracy has stopped rising.

    Parameters
    ----------
    factor : float
        In [0, 1].
    patience : int
        Accuracy checks in a row without a better one; counted anew after each reduction.

    Raises
    ------
    ValueError, TypeError
        For numbers out of range.
    """

    factor: float = 0.1
    patience: int = 3
    sets_learning_rate: ClassVar[bool] = True  # no schedule beside it
    needs_validation: ClassVar[bool] = True

    def __post_init__(self) -> None:
        real_number("ReduceOnPlateau", "factor", self.factor, 0, 1)
        positive_int("ReduceOnPlateau", "patience", self.patience)

    def on_eval(self, run: Run) -> None:
        """Count from the histories alone, as a resumed training must."""
        best, waited = -1.0, 0
        for accuracy in run.val_acc_history:
            waited = 0 if accuracy > best else waited + 1
            best = max(best, accuracy)
            if waited == self.patience:
                waited, reduced = 0, True
            else:
                reduced = False
        if run.val_acc_history and reduced:
            for config in run.optim_configs.values():
                config["learning_rate"] *= self.factor


def _share(iteration: int, total: int) -> float:
    return min(iteration / max(total, 1), 1.0)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
