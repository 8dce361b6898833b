"""The two-layer network."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv._checks import positive_int, real_number
from gconv._typing import Array
from gconv.classifiers.neural_net import two_layer_loss
from gconv.classifiers.parameters import Weights

__all__ = ["init_two_layer_model", "two_layer_net"]


def init_two_layer_model(input_size: int, hidden_size: int, output_size: int) -> dict[str, Array]:
    """Make the parameters of ``two_layer_net``.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        D, H and C.

    Returns
    -------
    dict
        W1 (D, H), W2 (H, C), normal with a standard deviation of 1e-5, drawn in this order from NumPy's global state;
        b1 (H,), b2 (C,), zeros. float64.

    Raises
    ------
    ValueError, TypeError
        If a size is no positive integer.
    """
    func = "init_two_layer_model"
    inputs, hidden = positive_int(func, "input_size", input_size), positive_int(func, "hidden_size", hidden_size)
    classes = positive_int(func, "output_size", output_size)
    weights = Weights(1e-5, np.dtype(np.float64))
    return {
        "W1": weights.normal(inputs, hidden),
        "b1": weights.zeros(hidden),
        "W2": weights.normal(hidden, classes),
        "b2": weights.zeros(classes),
    }


def two_layer_net(X: Array, model: dict[str, Array], y: Array | None = None, reg: float = 0.0) -> Any:
    """Compute affine - relu - affine - softmax.

    Parameters
    ----------
    X : array, shape (N, D)
    model : dict
        W1 (D, H), b1 (H,), W2 (H, C), b2 (C,).
    y : integer array, shape (N,), optional
        Labels.
    reg : float
        L2 strength, with the factor 0.5, on W1 and W2.

    Returns
    -------
    scores : array, shape (N, C)
        Without ``y``.
    loss, grads : scalar, dict
        With ``y``; grads has the keys of ``model``.
    """
    return two_layer_loss(X, model, y, real_number("two_layer_net", "reg", reg, 0), 0.5)
