"""A three-layer convolutional network."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv import fast_layers, layer_utils, layers
from gconv._arguments import backend_of
from gconv._checks import positive_int, real_number, refuse_unknown
from gconv._typing import Array
from gconv.classifiers.parameters import Weights, add_l2, check_loss_options, float_dtype
from gconv.classifiers.state_dict import WEIGHT_AND_BIAS, StateDict
from gconv.fast_layers import *  # noqa: F403 -- as in the course, whose notebooks take them from here
from gconv.geometry import output_size
from gconv.layer_utils import *  # noqa: F403
from gconv.layer_utils import (
    affine_relu_backward,
    affine_relu_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
)
from gconv.layers import *  # noqa: F403
from gconv.layers import affine_backward, affine_forward, softmax_loss

__all__ = ["ThreeLayerConvNet"]
__all__ += layers.__all__
__all__ += fast_layers.__all__
__all__ += layer_utils.__all__

# What other roots know.
ELSEWHERE = {"use_batchnorm": "of the class in gconv.courses.ucla.cnn, and False: this network has none"}


class ThreeLayerConvNet(StateDict):
    """conv - relu - 2x2 max pool - affine - relu - affine - softmax.

    The convolution has stride 1 and pads (filter_size - 1) // 2, which keeps the size for odd filters.

    Parameters
    ----------
    input_dim : (C, H, W)
        Size of one image; any height and width that leaves 2x2 pixels to pool.
    num_filters, filter_size, hidden_dim, num_classes : int
    weight_scale : float
        Standard deviation of the initial weights; biases start at 0.
    reg : float
        L2 strength, with the factor 0.5, on W1, W2 and W3.
    dtype : float32 or float64
        Of parameters and computation; images of another dtype are cast.
    rng : int or numpy.random.Generator, optional
        Draws the weights; None draws from NumPy's global state, in the order W1, W2, W3.
    loss_options : dict, optional
        ``label_smoothing``, ``ignore_label`` and ``class_weights``, as gconv.layers.softmax_loss takes them. Accuracies
        don't count samples with the label that is ignored.

    Attributes
    ----------
    params : dict
        W1 (num_filters, C, filter_size, filter_size), b1, W2 (pooled size, hidden_dim), b2,
        W3 (hidden_dim, num_classes), b3, on the backend that was the default at construction. For PyTorch
        (``state_dict``) they are those of ``conv1``, a Conv2d, and ``fc1`` and ``fc2``, Linears.

    Raises
    ------
    ValueError, TypeError
        For unknown keywords; if a size is no positive integer, or the image too small.

    Examples
    --------
    >>> model = ThreeLayerConvNet(input_dim=(1, 8, 8), num_filters=4, filter_size=3, hidden_dim=10)
    >>> model.loss(np.zeros((2, 1, 8, 8))).shape
    (2, 10)
    """

    capturable = True  # a step draws no random numbers: the Solver may replay it as a CUDA graph

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (3, 32, 32),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: Any = np.float32,
        *,
        rng: int | np.random.Generator | None = None,
        loss_options: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        func = "ThreeLayerConvNet"
        refuse_unknown(func, unknown, ELSEWHERE)
        if not isinstance(input_dim, (tuple, list)) or len(input_dim) != 3:
            raise ValueError(f"{func}: input_dim must be (C, H, W); got {input_dim!r}")
        channels, height, width = (positive_int(func, "input_dim", size) for size in input_dim)
        filters, size = positive_int(func, "num_filters", num_filters), positive_int(func, "filter_size", filter_size)
        hidden, classes = positive_int(func, "hidden_dim", hidden_dim), positive_int(func, "num_classes", num_classes)
        scale = real_number(func, "weight_scale", weight_scale, 0)
        self.reg = real_number(func, "reg", reg, 0)
        self.dtype = float_dtype(func, dtype)
        self.loss_options, kept = check_loss_options(func, loss_options, classes, self.dtype)
        self.input_dim = (channels, height, width)
        self.conv_param = {"stride": 1, "pad": (size - 1) // 2}
        self.pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
        pooled = [output_size(output_size(n, size, 1, (size - 1) // 2), 2, 2) for n in (height, width)]
        if min(pooled) < 1:
            raise ValueError(f"{func}: input_dim must leave 2x2 pixels after the convolution; got {input_dim!r}")
        self.config = {
            "class": func,
            "input_dim": list(self.input_dim),
            "num_filters": filters,
            "filter_size": size,
            "hidden_dim": hidden,
            "num_classes": classes,
            "weight_scale": scale,
            "reg": self.reg,
            "dtype": self.dtype.name,
            **kept,
        }
        weights = Weights(scale, self.dtype, rng)
        self.params: dict[str, Array] = {
            "W1": weights.normal(filters, channels, size, size),
            "b1": weights.zeros(filters),
            "W2": weights.normal(filters * pooled[0] * pooled[1], hidden),
            "b2": weights.zeros(hidden),
            "W3": weights.normal(hidden, classes),
            "b3": weights.zeros(classes),
        }

    def layer_names(self) -> dict[str, str]:
        """Return PyTorch's name of each parameter."""
        layers = enumerate(("conv1", "fc1", "fc2"), 1)
        return {f"{ours}{i}": f"{name}.{theirs}" for i, name in layers for ours, theirs in WEIGHT_AND_BIAS}

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """Compute scores, or loss and gradients.

        Parameters
        ----------
        X : array, shape (N, C, H, W)
        y : integer array, shape (N,), optional
            Labels.

        Returns
        -------
        scores : array, shape (N, num_classes)
            Without ``y``.
        loss, grads : scalar, dict
            With ``y``; grads has the keys of ``params``.

        Raises
        ------
        ValueError
            If X has images of another size, or a label is out of range.
        """
        backend = backend_of("ThreeLayerConvNet.loss", X=X)
        if tuple(X.shape[1:]) != self.input_dim:
            raise ValueError(
                f"ThreeLayerConvNet.loss: X must have shape (N, {', '.join(map(str, self.input_dim))}); "
                f"got {tuple(X.shape)}"
            )
        p = self.params
        pooled, conv_cache = conv_relu_pool_forward(
            backend.asarray(X, self.dtype), p["W1"], p["b1"], self.conv_param, self.pool_param
        )
        hidden, hidden_cache = affine_relu_forward(pooled, p["W2"], p["b2"])
        scores, affine_cache = affine_forward(hidden, p["W3"], p["b3"])
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y, **self.loss_options)
        grads: dict[str, Array] = {}
        dhidden, grads["W3"], grads["b3"] = affine_backward(dscores, affine_cache)
        dpooled, grads["W2"], grads["b2"] = affine_relu_backward(dhidden, hidden_cache)
        _, grads["W1"], grads["b1"] = conv_relu_pool_backward(dpooled, conv_cache, input_grad=False)
        return add_l2(loss, grads, p, self.reg), grads
