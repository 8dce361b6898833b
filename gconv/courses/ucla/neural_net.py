"""The two-layer network that trains itself, its weights transposed."""

from __future__ import annotations

from typing import Any

from gconv._checks import real_number
from gconv._typing import Array
from gconv.classifiers import neural_net as _neural_net

__all__ = ["TwoLayerNet"]


class TwoLayerNet(_neural_net.TwoLayerNet):
    """gconv.classifiers.neural_net's, with W1 (H, D) and W2 (C, H), and half its penalty.

    Parameters
    ----------
    input_size, hidden_size, output_size, std
        As there.

    Attributes
    ----------
    params : dict
        W1 (H, D), b1 (H,), W2 (C, H), b2 (C,), float64.
    """

    l2_factor = 0.5

    def __init__(
        self,
        input_size: int | None = None,
        hidden_size: int | None = None,
        output_size: int | None = None,
        std: float = 1e-4,
        **unknown: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, std, **unknown)
        # The values are drawn in rows of the transposed matrices: the same numbers, in the course's places.
        for name in ("W1", "W2"):
            self.params[name] = self.params[name].reshape(self.params[name].shape[::-1])

    def loss(self, X: Array, y: Array | None = None, reg: float = 0.0) -> Any:
        """Compute scores (N, C) of X (N, D), or with labels y (N,) loss and gradients, as gconv.classifiers does."""
        strength = real_number("TwoLayerNet.loss", "reg", reg, 0)
        params = {name: w.T if w.ndim == 2 else w for name, w in self.params.items()}
        result = _neural_net.two_layer_loss(X, params, y, strength, self.l2_factor)
        if y is None:
            return result
        loss, grads = result
        return loss, {name: dw.T if dw.ndim == 2 else dw for name, dw in grads.items()}
