"""Fully connected networks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from gconv import layer_utils, layers
from gconv._arguments import backend_of
from gconv._checks import one_of, positive_int, real_number, refuse_unknown
from gconv._typing import Array
from gconv.backends import get_backend
from gconv.classifiers.parameters import Weights, add_l2, check_loss_options, float_dtype
from gconv.classifiers.state_dict import WEIGHT_AND_BIAS, StateDict
from gconv.layer_utils import *  # noqa: F403 -- as in the course, whose notebooks take them from here
from gconv.layer_utils import affine_relu_backward, affine_relu_forward
from gconv.layers import *  # noqa: F403
from gconv.layers import (
    affine_backward,
    affine_forward,
    batchnorm_backward_alt,
    batchnorm_forward,
    dropout_backward,
    dropout_forward,
    layernorm_backward,
    layernorm_forward,
    relu_backward,
    relu_forward,
    softmax_loss,
)

__all__ = ["FullyConnectedNet", "TwoLayerNet"]
__all__ += layers.__all__
__all__ += layer_utils.__all__

# What other roots, and other classes, know.
NEURAL_NET = "of assignment 1's class in gconv.classifiers.neural_net"
ELSEWHERE = {
    "TwoLayerNet": {
        **dict.fromkeys(("input_size", "hidden_size", "output_size", "std"), NEURAL_NET),
        **dict.fromkeys(("hidden_dims", "dropout"), "of the class in gconv.courses.ucla.fc_net"),
    },
    "FullyConnectedNet": {
        "use_batchnorm": 'normalization="batchnorm" here; it works in gconv.courses.cs231n_2017, the roots of other '
        "courses of that time are in docs/from_cs231n.md",
    },
}

AVERAGES = ("running_mean", "running_var")


class TwoLayerNet(StateDict):
    """affine - relu - affine - softmax.

    Parameters
    ----------
    input_dim, hidden_dim, num_classes : int
    weight_scale : float
        Standard deviation of the initial weights; biases start at 0.
    reg : float
        L2 strength, with the factor 0.5, on W1 and W2.
    dtype : float32 or float64
        Of parameters and computation. float64, as in the course, whose notebook checks gradients with it.
    rng : int or numpy.random.Generator, optional
        Draws the weights; None draws from NumPy's global state, in the order W1, W2.
    loss_options : dict, optional
        ``label_smoothing``, ``ignore_label`` and ``class_weights``, as gconv.layers.softmax_loss takes them. Accuracies
        don't count samples with the label that is ignored.

    Attributes
    ----------
    params : dict
        W1 (input_dim, hidden_dim), b1, W2 (hidden_dim, num_classes), b2; for PyTorch (``state_dict``) those of
        the Linears ``fc1`` and ``fc2``.

    Raises
    ------
    ValueError, TypeError
        For unknown keywords; if a size is no positive integer.
    """

    capturable = True  # a step draws no random numbers: the Solver may replay it as a CUDA graph

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: Any = np.float64,
        *,
        rng: int | np.random.Generator | None = None,
        loss_options: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        func = "TwoLayerNet"
        refuse_unknown(func, unknown, ELSEWHERE[func])
        inputs, hidden = positive_int(func, "input_dim", input_dim), positive_int(func, "hidden_dim", hidden_dim)
        classes = positive_int(func, "num_classes", num_classes)
        scale = real_number(func, "weight_scale", weight_scale, 0)
        self.reg, self.dtype = real_number(func, "reg", reg, 0), float_dtype(func, dtype)
        self.loss_options, kept = check_loss_options(func, loss_options, classes, self.dtype)
        self.config = {
            "class": func,
            "input_dim": inputs,
            "hidden_dim": hidden,
            "num_classes": classes,
            "weight_scale": scale,
            "reg": self.reg,
            "dtype": self.dtype.name,
            **kept,
        }
        weights = Weights(scale, self.dtype, rng)
        self.params: dict[str, Array] = {
            "W1": weights.normal(inputs, hidden),
            "b1": weights.zeros(hidden),
            "W2": weights.normal(hidden, classes),
            "b2": weights.zeros(classes),
        }

    def layer_names(self) -> dict[str, str]:
        """Return PyTorch's name of each parameter."""
        return {f"{ours}{i}": f"fc{i}.{theirs}" for i in (1, 2) for ours, theirs in WEIGHT_AND_BIAS}

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """Compute scores (N, num_classes) of X (N, d_1, ..., d_k), or with labels y (N,) loss and gradients."""
        X = backend_of("TwoLayerNet.loss", X=X).asarray(X, self.dtype)
        p = self.params
        hidden, hidden_cache = affine_relu_forward(X, p["W1"], p["b1"])
        scores, affine_cache = affine_forward(hidden, p["W2"], p["b2"])
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y, **self.loss_options)
        grads: dict[str, Array] = {}
        dhidden, grads["W2"], grads["b2"] = affine_backward(dscores, affine_cache)
        _, grads["W1"], grads["b1"] = affine_relu_backward(dhidden, hidden_cache, input_grad=False)
        return add_l2(loss, grads, p, self.reg), grads


class FullyConnectedNet(StateDict):
    """{affine - [batch or layer normalization] - relu - [dropout]} x (L - 1) - affine - softmax.

    Parameters
    ----------
    hidden_dims : list of int
        Sizes of the hidden layers; empty for a linear classifier.
    input_dim, num_classes : int
    dropout_keep_ratio : float, optional
        Probability to keep a value, in (0, 1]; 1, the default, means no dropout.
    normalization : {None, "batchnorm", "layernorm"}
    reg : float
        L2 strength, with the factor 0.5, on every W.
    weight_scale : float
        Standard deviation of the initial weights; biases and shifts start at 0, scales at 1.
    dtype : float32 or float64
        Of parameters and computation.
    seed : int, optional
        Fixes the dropout masks, every call the same, for gradient checks.
    rng : int or numpy.random.Generator, optional
        Draws the weights; None draws from NumPy's global state, in the order W1, W2, ...
    dropout : float, optional
        The name of 2018 and 2019 for ``dropout_keep_ratio``; 0 means no dropout too. Until 2017 it was the probability
        of dropping: ``gconv.courses.cs231n_2017`` has that.
    loss_options : dict, optional
        ``label_smoothing``, ``ignore_label`` and ``class_weights``, as gconv.layers.softmax_loss takes them. Accuracies
        don't count samples with the label that is ignored.

    Attributes
    ----------
    params : dict
        W1, b1, W2, b2, ...; with normalization also gamma1, beta1, ... of the hidden layers. For PyTorch
        (``state_dict``) they are those of the Linears ``fc1``, ``fc2``, ... and of ``norm1``, ...: BatchNorm1d, whose
        running averages are taken over too, or LayerNorm.
    bn_params : list of dict
        Parameters and running averages of each hidden layer's normalization.

    Raises
    ------
    ValueError, TypeError
        For unknown keywords, for both names of the keep ratio at once, for values out of range or of a wrong type.
    """

    dropout_forward = staticmethod(dropout_forward)  # of a subclass, one whose ``p`` means something else

    def __init__(
        self,
        hidden_dims: list[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout_keep_ratio: float | None = None,
        normalization: str | None = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: Any = np.float32,
        seed: int | None = None,
        *,
        rng: int | np.random.Generator | None = None,
        dropout: float | None = None,
        loss_options: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        func = "FullyConnectedNet"
        refuse_unknown(func, unknown, ELSEWHERE[func])
        if dropout is not None and dropout_keep_ratio is not None:
            raise ValueError(
                f"{func}: dropout_keep_ratio must be given under one name; got {dropout_keep_ratio}, and "
                f"dropout={dropout}"
            )
        if not isinstance(hidden_dims, (list, tuple)):
            raise TypeError(f"{func}: hidden_dims must be a list of integers; got {hidden_dims!r}")
        sizes = [
            positive_int(func, "input_dim", input_dim),
            *(positive_int(func, "hidden_dims", size) for size in hidden_dims),
            positive_int(func, "num_classes", num_classes),
        ]
        if dropout is not None:
            dropout_keep_ratio = real_number(func, "dropout", dropout, 0, 1) or 1.0
        keep = real_number(func, "dropout_keep_ratio", 1 if dropout_keep_ratio is None else dropout_keep_ratio, 0, 1)
        if keep == 0:
            raise ValueError(f"{func}: dropout_keep_ratio must be above 0, it is the share that is kept; got {keep}")
        self.normalization = one_of(func, "normalization", normalization, (None, "batchnorm", "layernorm"))
        self.use_dropout = keep != 1
        self.reg, self.dtype = real_number(func, "reg", reg, 0), float_dtype(func, dtype)
        self.loss_options, kept = check_loss_options(func, loss_options, sizes[-1], self.dtype)
        scale = real_number(func, "weight_scale", weight_scale, 0)
        self.num_layers = len(sizes) - 1
        self.config = {
            "class": func,
            "hidden_dims": sizes[1:-1],
            "input_dim": sizes[0],
            "num_classes": sizes[-1],
            "dropout_keep_ratio": keep,
            "normalization": self.normalization,
            "reg": self.reg,
            "weight_scale": scale,
            "dtype": self.dtype.name,
            "seed": seed,
            **kept,
        }
        weights = Weights(scale, self.dtype, rng)
        self.params: dict[str, Array] = {}
        for layer, (rows, columns) in enumerate(pairwise(sizes), 1):
            self.params[f"W{layer}"], self.params[f"b{layer}"] = weights.normal(rows, columns), weights.zeros(columns)
            if self.normalization and layer < self.num_layers:
                self.params[f"gamma{layer}"], self.params[f"beta{layer}"] = (
                    weights.ones(columns),
                    weights.zeros(columns),
                )
        hidden = self.num_layers - 1
        self.bn_params: list[dict[str, Any]] = [{"mode": "train"} for _ in range(hidden if self.normalization else 0)]
        self.dropout_param: dict[str, Any] = {"mode": "train", "p": keep} if self.use_dropout else {}
        if self.use_dropout and seed is not None:
            self.dropout_param["seed"] = seed

    @property
    def capturable(self) -> bool:
        """Whether a step draws no random numbers, so that the Solver may replay it as a CUDA graph."""
        return not self.use_dropout

    @property
    def buffers(self) -> dict[str, Array]:
        """State that is no parameter: the running averages of batch normalization, by name."""
        return {
            f"{key}{layer}": bn_param[key]
            for layer, bn_param in enumerate(self.bn_params, 1)
            for key in AVERAGES
            if key in bn_param
        }

    @buffers.setter
    def buffers(self, arrays: dict[str, Array]) -> None:
        for layer, bn_param in enumerate(self.bn_params, 1):
            for key in AVERAGES:
                bn_param.pop(key, None)
                if f"{key}{layer}" in arrays:
                    bn_param[key] = arrays[f"{key}{layer}"]

    def layer_names(self) -> dict[str, str]:
        """Return PyTorch's name of each parameter and running average."""
        layers, norms = range(1, self.num_layers + 1), range(1, len(self.bn_params) + 1)
        scales = [("gamma", "weight"), ("beta", "bias")]
        if self.normalization == "batchnorm":
            scales += [(name, name) for name in AVERAGES]
        return {
            **{f"{ours}{i}": f"fc{i}.{theirs}" for i in layers for ours, theirs in WEIGHT_AND_BIAS},
            **{f"{ours}{i}": f"norm{i}.{theirs}" for i in norms for ours, theirs in scales},
        }

    def buffer_values(self) -> dict[str, Array]:
        """Return the running averages, zeros before any training."""
        if self.normalization != "batchnorm":
            return {}
        start = {
            f"{name}{i}": get_backend(gamma).xp.zeros(gamma.shape, gamma.dtype)
            for i in range(1, self.num_layers)
            for gamma in [self.params[f"gamma{i}"]]
            for name in AVERAGES
        }
        return {**start, **self.buffers}

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """Compute scores, in test mode, or with labels loss and gradients, in train mode.

        Parameters
        ----------
        X : array, shape (N, d_1, ..., d_k)
        y : integer array, shape (N,), optional
            Labels.

        Returns
        -------
        scores : array, shape (N, num_classes)
            Without ``y``.
        loss, grads : scalar, dict
            With ``y``; grads has the keys of ``params``.
        """
        out = backend_of("FullyConnectedNet.loss", X=X).asarray(X, self.dtype)
        mode = "test" if y is None else "train"
        for options in (*self.bn_params, self.dropout_param):
            if options:
                options["mode"] = mode
        caches = []
        for layer in range(1, self.num_layers):
            out, cache = self._hidden_forward(layer, out)
            caches.append(cache)
        last = self.num_layers
        scores, affine_cache = affine_forward(out, self.params[f"W{last}"], self.params[f"b{last}"])
        if y is None:
            return scores
        loss, dout = softmax_loss(scores, y, **self.loss_options)
        grads: dict[str, Array] = {}
        dout, grads[f"W{last}"], grads[f"b{last}"] = affine_backward(dout, affine_cache, input_grad=last > 1)
        for layer in range(last - 1, 0, -1):
            dout = self._hidden_backward(layer, dout, caches[layer - 1], grads)
        return add_l2(loss, grads, self.params, self.reg), grads

    def _hidden_forward(self, layer: int, x: Array) -> tuple[Array, Any]:
        p, norm_cache, dropout_cache = self.params, None, None
        out, affine_cache = affine_forward(x, p[f"W{layer}"], p[f"b{layer}"])
        if self.normalization:
            forward: Any = batchnorm_forward if self.normalization == "batchnorm" else layernorm_forward
            out, norm_cache = forward(out, p[f"gamma{layer}"], p[f"beta{layer}"], self.bn_params[layer - 1])
        out, relu_cache = relu_forward(out)
        if self.use_dropout:
            out, dropout_cache = self.dropout_forward(out, self.dropout_param)
        return out, (affine_cache, norm_cache, relu_cache, dropout_cache)

    def _hidden_backward(self, layer: int, dout: Array, cache: Any, grads: dict[str, Array]) -> Array | None:
        affine_cache, norm_cache, relu_cache, dropout_cache = cache
        if dropout_cache is not None:
            dout = dropout_backward(dout, dropout_cache)
        dout = relu_backward(dout, relu_cache)
        if norm_cache is not None:
            backward: Any = batchnorm_backward_alt if self.normalization == "batchnorm" else layernorm_backward
            dout, grads[f"gamma{layer}"], grads[f"beta{layer}"] = backward(dout, norm_cache)
        dx, grads[f"W{layer}"], grads[f"b{layer}"] = affine_backward(dout, affine_cache, input_grad=layer > 1)
        return dx
