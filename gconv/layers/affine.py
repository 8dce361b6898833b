"""Affine (fully connected) layer, ReLU and leaky ReLU."""

from __future__ import annotations

import math
from typing import Any

from gconv._arguments import prepare, prepare_layer
from gconv._caches import ARRAY, BIAS, PARAM, check_cache, opened
from gconv._checks import check_ndim, check_shape, known_keys, real_number
from gconv._memory import names_memory_errors
from gconv._typing import Array

__all__ = [
    "affine_backward",
    "affine_forward",
    "fc_backward",
    "fc_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "relu_backward",
    "relu_forward",
]


@names_memory_errors
def affine_forward(x: Array, w: Array, b: Array | None) -> tuple[Array, tuple[Any, ...]]:
    """Compute out = x w + b, each sample of x laid out as one row.

    Parameters
    ----------
    x : array, shape (N, d_1, ..., d_k)
        A minibatch; D = d_1 * ... * d_k.
    w : array, shape (D, M)
    b : array, shape (M,), or None
        None for no bias.

    Returns
    -------
    out : array, shape (N, M)
    cache : tuple
        (x, w, b)

    Raises
    ------
    ValueError
        If the shapes do not match.
    TypeError
        If an argument is no real array, none is floating, or NumPy and CuPy arrays are mixed.

    Examples
    --------
    >>> out, cache = affine_forward(np.ones((2, 3, 4)), np.ones((12, 5)), np.zeros(5))
    >>> out.shape
    (2, 5)
    """
    return affine_activation("affine_forward", x, w, b), (x, w, b)


def affine_activation(func: str, x: Array, w: Array, b: Array | None, activation: str | None = None) -> Array:
    """Return x w + b, with an activation if one is named, after the checks; ``func`` is named in errors."""
    backend, x, w, b = prepare_layer(func, x, w, b)
    _check_affine(func, x, w)
    if b is not None:
        check_shape(func, "b", b, (w.shape[1],), f"to match w {tuple(w.shape)}")
    return backend.affine_forward(x.reshape(x.shape[0], w.shape[0]), w, b, activation)


@names_memory_errors
def affine_backward(
    dout: Array, cache: tuple[Any, ...], input_grad: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """Compute the gradients of an affine layer.

    Parameters
    ----------
    dout : array, shape (N, M)
    cache : tuple
        From affine_forward.
    input_grad : bool
        False skips ``dx``, which the first layer of a model has no use for.

    Returns
    -------
    dx : array, shape (N, d_1, ..., d_k), or None
    dw : array, shape (D, M)
    db : array, shape (M,), or None
        None where there was no bias.

    Raises
    ------
    ValueError
        If ``dout`` has another shape than the output.
    """
    x, w, b = opened("affine_backward", cache, ARRAY, ARRAY, BIAS)
    backend, dout, x, w = prepare("affine_backward", dout=dout, x=x, w=w)
    _check_affine("affine_backward", x, w)
    check_shape("affine_backward", "dout", dout, (x.shape[0], w.shape[1]), "of the output")
    dx, dw, db = backend.affine_backward(dout, x.reshape(x.shape[0], w.shape[0]), w, input_grad)
    return dx if dx is None else dx.reshape(x.shape), dw, None if b is None else db


def _check_affine(func: str, x: Array, w: Array) -> None:
    check_ndim(func, "w", w, 2, "(D, M)")
    if x.ndim < 1 or math.prod(x.shape[1:]) != w.shape[0]:
        raise ValueError(
            f"{func}: x must have {w.shape[0]} values a sample to match w {tuple(w.shape)}; got x {tuple(x.shape)}"
        )


# The course's older notebooks and many networks' code say "fc".
fc_forward = affine_forward
fc_backward = affine_backward


@names_memory_errors
def relu_forward(x: Array) -> tuple[Array, Array]:
    """Compute out = max(0, x), elementwise.

    Parameters
    ----------
    x : array, any shape

    Returns
    -------
    out : array, shape of ``x``
    cache : array
        ``x``

    Examples
    --------
    >>> relu_forward(np.array([-1.0, 0.0, 2.0]))[0]
    array([0., 0., 2.])
    """
    backend, values = prepare("relu_forward", x=x)
    return backend.relu_forward(values), x


@names_memory_errors
def relu_backward(dout: Array, cache: Array) -> Array:
    """Compute dx = dout where x > 0, else 0.

    Parameters
    ----------
    dout : array, shape of the input
    cache : array
        From relu_forward.

    Returns
    -------
    dx : array, shape of the input
    """
    check_cache("relu_backward", cache, ARRAY)
    backend, dout, x = prepare("relu_backward", dout=dout, x=cache)
    check_shape("relu_backward", "dout", dout, x.shape, "of the input")
    return backend.relu_backward(dout, x)


_LEAKY_RELU_KEYS = {"alpha": None}.keys()


@names_memory_errors
def leaky_relu_forward(x: Array, lrelu_param: dict[str, Any]) -> tuple[Array, tuple[Array, dict[str, Any]]]:
    """Compute out = x where x > 0, else alpha x, elementwise.

    Parameters
    ----------
    x : array, any shape
    lrelu_param : dict
        ``alpha``: the slope below 0, a finite number; 0.01.

    Returns
    -------
    out : array, shape of ``x``
    cache : tuple
        (x, lrelu_param)

    Raises
    ------
    ValueError
        If alpha is not finite, or a key is unknown.
    TypeError
        If alpha is no number, or ``x`` no floating array.

    References
    ----------
    Maas et al., "Rectifier nonlinearities improve neural network acoustic models", 2013.

    Examples
    --------
    >>> leaky_relu_forward(np.array([-2.0, 0.0, 2.0]), {"alpha": 0.1})[0]
    array([-0.2,  0. ,  2. ])
    """
    func = "leaky_relu_forward"
    backend, values = prepare(func, x=x)
    slope = _slope(func, lrelu_param)
    return backend.xp.where(values > 0, values, slope * values), (x, lrelu_param)


@names_memory_errors
def leaky_relu_backward(dout: Array, cache: tuple[Array, dict[str, Any]]) -> Array:
    """Compute dx = dout where x > 0, else alpha dout.

    Parameters
    ----------
    dout : array, shape of the input
    cache : tuple
        From leaky_relu_forward.

    Returns
    -------
    dx : array, shape of the input
    """
    func = "leaky_relu_backward"
    x, lrelu_param = opened(func, cache, ARRAY, PARAM)
    backend, dout, x = prepare(func, dout=dout, x=x)
    check_shape(func, "dout", dout, x.shape, "of the input")
    return backend.xp.where(x > 0, dout, _slope(func, lrelu_param) * dout)


def _slope(func: str, lrelu_param: dict[str, Any]) -> float:
    known_keys(func, "lrelu_param", lrelu_param, _LEAKY_RELU_KEYS)
    return real_number(func, "lrelu_param['alpha']", lrelu_param.get("alpha", 0.01))
