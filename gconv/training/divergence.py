"""The end of a training that has left the finite numbers."""

from __future__ import annotations

__all__ = ["NOT_UNDONE", "UNDONE", "Diverged", "diverged"]

UNDONE = "The step before was undone: model.params are the last ones with a finite loss"
NOT_UNDONE = "model.params are those that this training began with"


class Diverged(FloatingPointError):
    """A training that has left the finite numbers; what led there has been undone."""


def diverged(what: str, iteration: int, rate: float | None, left: str) -> Diverged:
    """Return the error of a training that has left the finite numbers; ``left`` says how it was left."""
    return Diverged(
        f"Solver.train: {what} at iteration {iteration} with learning rate {rate}. {left}; try a smaller learning rate"
    )
