"""The two-layer convolutional network; a star import brings the layers too, as in the course."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv import fast_layers as _fast_layers
from gconv import layer_utils as _layer_utils
from gconv import layers as _layers
from gconv._checks import positive_int, real_number
from gconv._typing import Array
from gconv.classifiers.parameters import Weights, add_l2
from gconv.fast_layers import *  # noqa: F403
from gconv.layer_utils import *  # noqa: F403
from gconv.layers import *  # noqa: F403

__all__ = ["init_two_layer_convnet", "two_layer_convnet"]
__all__ += _layers.__all__
__all__ += _fast_layers.__all__
__all__ += _layer_utils.__all__


def init_two_layer_convnet(
    weight_scale: float = 1e-3,
    bias_scale: float = 0,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    num_classes: int = 10,
    num_filters: int = 32,
    filter_size: int = 5,
) -> dict[str, Array]:
    """Make the parameters of ``two_layer_convnet``.

    Parameters
    ----------
    weight_scale, bias_scale : float
        Standard deviations.
    input_shape : tuple of int
        (C, H, W); H and W even.
    num_classes, num_filters : int
    filter_size : int
        Odd.

    Returns
    -------
    dict
        W1 (num_filters, C, filter_size, filter_size), b1 (num_filters,), W2 (num_filters * H/2 * W/2, num_classes),
        b2 (num_classes,), drawn in this order from NumPy's global state. float64.

    Raises
    ------
    ValueError, TypeError
        If a size is no positive integer, the filters' size even, or H or W odd.
    """
    func = "init_two_layer_convnet"
    channels, height, width = (positive_int(func, "input_shape", size) for size in input_shape)
    filters, classes = positive_int(func, "num_filters", num_filters), positive_int(func, "num_classes", num_classes)
    size = positive_int(func, "filter_size", filter_size)
    if size % 2 == 0:
        raise ValueError(f"{func}: filter_size must be odd; got {size}")
    if height % 2 or width % 2:
        raise ValueError(f"{func}: input_shape must have an even height and width, for 2x2 pooling; got {input_shape}")
    dtype = np.dtype(np.float64)
    weights = Weights(real_number(func, "weight_scale", weight_scale, 0), dtype)
    biases = Weights(real_number(func, "bias_scale", bias_scale, 0), dtype)
    return {
        "W1": weights.normal(filters, channels, size, size),
        "b1": biases.normal(filters),
        "W2": weights.normal(filters * (height // 2) * (width // 2), classes),
        "b2": biases.normal(classes),
    }


def two_layer_convnet(X: Array, model: dict[str, Array], y: Array | None = None, reg: float = 0.0) -> Any:
    """Compute conv - relu - 2x2 max pool - affine - softmax; the convolution keeps the size.

    Parameters
    ----------
    X : array, shape (N, C, H, W)
    model : dict
        As ``init_two_layer_convnet`` makes it.
    y : integer array, shape (N,), optional
        Labels.
    reg : float
        L2 strength, with the factor 0.5, on W1 and W2.

    Returns
    -------
    scores : array, shape (N, num_classes)
        Without ``y``.
    loss, grads : scalar, dict
        With ``y``; grads has the keys of ``model``.
    """
    strength = real_number("two_layer_convnet", "reg", reg, 0)
    conv_param = {"stride": 1, "pad": (model["W1"].shape[2] - 1) // 2}
    pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    pooled, conv_cache = _layer_utils.conv_relu_pool_forward(X, model["W1"], model["b1"], conv_param, pool_param)
    scores, affine_cache = _layers.affine_forward(pooled, model["W2"], model["b2"])
    if y is None:
        return scores
    loss, dscores = _layers.softmax_loss(scores, y)
    grads: dict[str, Array] = {}
    dpooled, grads["W2"], grads["b2"] = _layers.affine_backward(dscores, affine_cache)
    _, grads["W1"], grads["b1"] = _layer_utils.conv_relu_pool_backward(dpooled, conv_cache, input_grad=False)
    return add_l2(loss, grads, {name: model[name] for name in ("W1", "W2")}, strength), grads
