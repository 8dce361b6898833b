"""Changing gradients before they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gconv._checks import real_number
from gconv._typing import Array
from gconv.backends import get_backend
from gconv.training.callbacks.protocol import Callback

if TYPE_CHECKING:
    from gconv.training.run import Run

__all__ = ["ClipGradients"]


@dataclass(frozen=True)
class ClipGradients(Callback):
    """Scales all gradients down together where their norm is larger than ``max_norm``.

    The norm is that of all gradients as one vector, the L2 penalty's share included. On a GPU it is computed and
    used there, without waiting for it. All gradients must have one dtype.

    Parameters
    ----------
    max_norm : float
        Above 0.

    Raises
    ------
    ValueError, TypeError
        For a number out of range.

    References
    ----------
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """

    max_norm: float
    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if real_number("ClipGradients", "max_norm", self.max_norm, 0) == 0:
            raise ValueError(f"ClipGradients: max_norm must be above 0; got {self.max_norm}")

    def on_gradients(self, run: Run, grads: dict[str, Array]) -> dict[str, Array]:
        """Return the gradients times min(1, max_norm / norm)."""
        dtypes = sorted({str(grad.dtype) for grad in grads.values()})
        if len(dtypes) > 1:
            raise TypeError(f"ClipGradients: grads must have one dtype; got {', '.join(dtypes)}")
        clipped = get_backend(*grads.values()).clip_gradients(list(grads.values()), self.max_norm)
        return dict(zip(grads, clipped, strict=True))
