"""Convolution and pooling in plain loops, the definition that the fast layers are compared with."""

from __future__ import annotations

from typing import Any

from gconv._arguments import prepare
from gconv._caches import ARRAY, BIAS, PARAM, opened
from gconv._checks import check_shape
from gconv._memory import names_memory_errors
from gconv._typing import Array
from gconv.backends.naive import NaiveBackend
from gconv.geometry import conv_param_geometry, pool_param_geometry

__all__ = [
    "avg_pool_backward_naive",
    "avg_pool_forward_naive",
    "conv_backward_naive",
    "conv_forward_naive",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
]

_loops = NaiveBackend()


def _prepare(func: str, **arrays: Array | None) -> list[Any]:
    """Check and cast as everywhere, a bias may be None; the loops run on NumPy arrays alone, nothing is moved."""
    given = {name: array for name, array in arrays.items() if array is not None or name != "b"}
    backend, *prepared = prepare(func, **given)
    if backend.name == "gpu":
        raise TypeError(f"{func}: {', '.join(given)} must be NumPy arrays, the loops run on the CPU; got CuPy arrays")
    return prepared + [None] * (len(arrays) - len(given))


@names_memory_errors
def conv_forward_naive(
    x: Array, w: Array, b: Array | None, conv_param: dict[str, Any]
) -> tuple[Array, tuple[Any, ...]]:
    """Convolve (cross-correlate) N images of C channels with F filters, by loops.

    H' = 1 + (H + 2 pad - HH) // stride, and W' likewise.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    w : array, shape (F, C, HH, WW)
    b : array, shape (F,), or None
        None for no bias.
    conv_param : dict
        ``stride``: pixels between two windows, at least 1; ``pad``: rows and columns of zeros on each
        side, at least 0. Each an int or a (vertical, horizontal) pair.

    Returns
    -------
    out : array, shape (N, F, H', W')
    cache : tuple
        (x, w, b, conv_param)

    Raises
    ------
    ValueError
        If shapes do not match, the filter is larger than the padded image, or a key is missing, wrong or unknown.
    TypeError
        If an argument is no real array, none is floating, or NumPy and CuPy arrays are mixed.
    """
    func = "conv_forward_naive"
    xs, ws, bs = _prepare(func, x=x, w=w, b=b)
    geometry = conv_param_geometry(func, xs, ws, conv_param, bs)
    return _loops.conv_forward(xs, ws, bs, geometry), (x, w, b, conv_param)


@names_memory_errors
def conv_backward_naive(dout: Array, cache: tuple[Any, ...]) -> tuple[Array, Array, Array | None]:
    """Compute the gradients of a convolution, by loops.

    Parameters
    ----------
    dout : array, shape (N, F, H', W')
    cache : tuple
        (x, w, b, conv_param)

    Returns
    -------
    dx : array, shape (N, C, H, W)
    dw : array, shape (F, C, HH, WW)
    db : array, shape (F,), or None
        None where there was no bias.
    """
    func = "conv_backward_naive"
    x, w, b, conv_param = opened(func, cache, ARRAY, ARRAY, BIAS, PARAM)
    dout, x, w = _prepare(func, dout=dout, x=x, w=w)
    geometry = conv_param_geometry(func, x, w, conv_param)
    check_shape(func, "dout", dout, geometry.out, "of the output")
    dx, dw, db = _loops.conv_backward(dout, x, w, geometry)
    return dx, dw, None if b is None else db


@names_memory_errors
def max_pool_forward_naive(x: Array, pool_param: dict[str, Any]) -> tuple[Array, tuple[Any, ...]]:
    """Take the maximum of each window, by loops.

    H' = 1 + (H - pool_height) // stride, and W' likewise; NaN in a window is its maximum.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    pool_param : dict
        ``pool_height``, ``pool_width``: the window's size, at least 1. ``stride``: pixels between two
        windows, at least 1, an int or a (vertical, horizontal) pair.

    Returns
    -------
    out : array, shape (N, C, H', W')
    cache : tuple
        (x, pool_param)
    """
    func = "max_pool_forward_naive"
    (xs,) = _prepare(func, x=x)
    pool = pool_param_geometry(func, xs.shape, pool_param)
    return _loops.max_pool_forward(xs, pool)[0], (x, pool_param)


@names_memory_errors
def max_pool_backward_naive(dout: Array, cache: tuple[Any, ...]) -> Array:
    """Send each gradient to the first maximum, in row-major order, of its window, by loops.

    Parameters
    ----------
    dout : array, shape (N, C, H', W')
    cache : tuple
        (x, pool_param)

    Returns
    -------
    dx : array, shape (N, C, H, W)
    """
    func = "max_pool_backward_naive"
    x, pool_param = opened(func, cache, ARRAY, PARAM)
    dout, x = _prepare(func, dout=dout, x=x)
    pool = pool_param_geometry(func, x.shape, pool_param)
    check_shape(func, "dout", dout, pool.out, "of the output")
    _, argmax = _loops.max_pool_forward(x, pool)
    return _loops.max_pool_backward(dout, argmax, pool)


@names_memory_errors
def avg_pool_forward_naive(x: Array, pool_param: dict[str, Any]) -> tuple[Array, tuple[Any, ...]]:
    """Take the mean of each window, by loops.

    H' = 1 + (H - pool_height) // stride, and W' likewise.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    pool_param : dict
        As in max_pool_forward_naive.

    Returns
    -------
    out : array, shape (N, C, H', W')
    cache : tuple
        (x, pool_param)
    """
    func = "avg_pool_forward_naive"
    (xs,) = _prepare(func, x=x)
    return _loops.avg_pool_forward(xs, pool_param_geometry(func, xs.shape, pool_param)), (x, pool_param)


@names_memory_errors
def avg_pool_backward_naive(dout: Array, cache: tuple[Any, ...]) -> Array:
    """Send each gradient, in equal parts, to the pixels of its window, by loops.

    Parameters
    ----------
    dout : array, shape (N, C, H', W')
    cache : tuple
        (x, pool_param)

    Returns
    -------
    dx : array, shape (N, C, H, W)
    """
    func = "avg_pool_backward_naive"
    x, pool_param = opened(func, cache, ARRAY, PARAM)
    dout, x = _prepare(func, dout=dout, x=x)
    pool = pool_param_geometry(func, x.shape, pool_param)
    check_shape(func, "dout", dout, pool.out, "of the output")
    return _loops.avg_pool_backward(dout, pool)
