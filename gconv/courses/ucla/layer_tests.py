"""Checks of the layers, which print relative errors: what the optimisation notebook calls before it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gconv._typing import Array
from gconv.courses.ucla.fc_net import FullyConnectedNet
from gconv.courses.ucla.layer_utils import (
    affine_backward,
    affine_forward,
    affine_relu_backward,
    affine_relu_forward,
    relu_backward,
    relu_forward,
)
from gconv.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array, rel_error

__all__ = [
    "affine_backward_test",
    "affine_forward_test",
    "affine_relu_test",
    "fc_net_test",
    "rel_error",
    "relu_backward_test",
    "relu_forward_test",
]


def affine_forward_test() -> None:
    """Compare affine_forward with NumPy's product."""
    x, w, b = np.random.randn(2, 4, 5, 6), np.random.randn(120, 3), np.random.randn(3)
    out, _ = affine_forward(x, w, b)
    print(f"affine_forward, below 1e-9\ndifference: {rel_error(out, x.reshape(2, -1) @ w + b)}")


def affine_backward_test() -> None:
    """Compare affine_backward with numeric gradients."""
    shapes = {"x": (10, 2, 3), "w": (6, 5), "b": (5,)}
    _compare("affine_backward", affine_forward, affine_backward, shapes)


def relu_forward_test() -> None:
    """Compare relu_forward with its definition."""
    x = np.random.randn(3, 4)
    print(f"relu_forward, below 1e-9\ndifference: {rel_error(relu_forward(x)[0], np.maximum(x, 0))}")


def relu_backward_test() -> None:
    """Compare relu_backward with a numeric gradient."""
    _compare("relu_backward", relu_forward, lambda dout, cache: (relu_backward(dout, cache),), {"x": (10, 10)})


def affine_relu_test() -> None:
    """Compare affine_relu_backward with numeric gradients."""
    shapes = {"x": (2, 3, 4), "w": (12, 10), "b": (10,)}
    _compare("affine_relu", affine_relu_forward, affine_relu_backward, shapes)


def fc_net_test() -> None:
    """Compare the gradients of a FullyConnectedNet with numeric ones, without a penalty and with one."""
    X, y = np.random.randn(2, 15), np.random.randint(10, size=2)
    for reg in (0.0, 3.14):
        model = FullyConnectedNet([20, 30], 15, 10, reg=reg, weight_scale=5e-2, dtype=np.float64)
        loss, grads = model.loss(X, y)
        print(f"reg = {reg}\nInitial loss: {loss}")

        def loss_of(_: Array, model: FullyConnectedNet = model) -> Any:
            return model.loss(X, y)[0]

        for name in sorted(grads):
            numeric = eval_numerical_gradient(loss_of, model.params[name], verbose=False)
            print(f"{name} relative error: {rel_error(numeric, grads[name])}")


def _compare(
    what: str, forward: Callable[..., Any], backward: Callable[..., Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    """Print the errors of a layer's gradients, whose arguments are of these shapes."""
    arrays: dict[str, Array] = {name: np.random.randn(*shape) for name, shape in shapes.items()}
    out, cache = forward(*arrays.values())
    dout = np.random.randn(*out.shape)
    print(f"{what}, below 1e-7")
    for (name, array), gradient in zip(arrays.items(), backward(dout, cache), strict=True):
        numeric = eval_numerical_gradient_array(lambda _: forward(*arrays.values())[0], array, dout)
        print(f"d{name} error: {rel_error(numeric, gradient)}")
