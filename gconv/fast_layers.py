"""Fast convolution and pooling, and the two textbook ways that the course compares them with.

``*_fast`` run the backend's kernels with bounded memory. ``*_im2col`` multiply one whole column matrix,
``*_strides`` and ``*_reshape`` contract a view. All give the same results on every shape.
"""

from __future__ import annotations

import math
from typing import Any

from gconv._arguments import prepare, prepare_layer
from gconv._caches import ARRAY, BIAS, PARAM, check_cache, opened
from gconv._checks import check_shape
from gconv._memory import names_memory_errors
from gconv._typing import Array
from gconv.backends import Backend
from gconv.backends.base import argmax_dtype
from gconv.backends.far_windows import near_windows
from gconv.backends.sums import sum_channels, sum_last
from gconv.geometry import ConvGeometry, PoolGeometry, conv_param_geometry, pool_param_geometry

__all__ = [
    "avg_pool_backward_fast",
    "avg_pool_forward_fast",
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_strides",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_strides",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_reshape",
]

ConvCache = tuple[Array, Array, Array | None, dict[str, Any]]
PoolCache = tuple[Array, PoolGeometry]


@names_memory_errors
def conv_forward_fast(x: Array, w: Array, b: Array | None, conv_param: dict[str, Any]) -> tuple[Array, ConvCache]:
    """Convolve (cross-correlate) N images of C channels with F filters.

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
        (x, w, b, conv_param); no columns are kept.

    Raises
    ------
    ValueError
        If shapes do not match, the filter is larger than the padded image, or a key is missing, wrong or unknown.
    TypeError
        If an argument is no real array, none is floating, or NumPy and CuPy arrays are mixed.

    Examples
    --------
    >>> x, w, b = np.ones((1, 3, 5, 5)), np.ones((2, 3, 3, 3)), np.zeros(2)
    >>> out, cache = conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    >>> out.shape, float(out[0, 0, 2, 2])
    ((1, 2, 5, 5), 27.0)
    """
    return conv_activation("conv_forward_fast", x, w, b, conv_param)


def conv_activation(
    func: str, x: Array, w: Array, b: Array | None, conv_param: dict[str, Any], activation: str | None = None
) -> tuple[Array, ConvCache]:
    """Return the convolution, with an activation if one is named, after the checks; ``func`` is named in errors."""
    backend, xs, ws, bs, geometry = _conv_arguments(func, x, w, b, conv_param)
    return backend.conv_forward(xs, ws, bs, geometry, activation), (x, w, b, conv_param)


@names_memory_errors
def conv_backward_fast(
    dout: Array, cache: ConvCache, input_grad: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """Compute the gradients of a convolution.

    Parameters
    ----------
    dout : array, shape (N, F, H', W')
    cache : tuple
        From conv_forward_fast, or any (x, w, b, conv_param).
    input_grad : bool
        False skips ``dx``, which the first layer of a model has no use for.

    Returns
    -------
    dx : array, shape (N, C, H, W), or None
    dw : array, shape (F, C, HH, WW)
    db : array, shape (F,), or None
        None where there was no bias.

    Raises
    ------
    ValueError
        If ``dout`` has another shape than the output.
    """
    backend, dout, x, w, geometry = _conv_backward_arguments("conv_backward_fast", dout, cache)
    dx, dw, db = backend.conv_backward(dout, x, w, geometry, input_grad)
    return dx, dw, None if cache[2] is None else db


@names_memory_errors
def conv_forward_im2col(x: Array, w: Array, b: Array | None, conv_param: dict[str, Any]) -> tuple[Array, ConvCache]:
    """Convolve as one product of filters and the whole column matrix; arguments as conv_forward_fast."""
    backend, xs, ws, bs, geometry = _conv_arguments("conv_forward_im2col", x, w, b, conv_param)
    n, f, out_h, out_w = geometry.out
    cols = backend.im2col(xs, geometry)  # (C*HH*WW, N*H'*W')
    out = ws.reshape(f, cols.shape[0]) @ cols  # (F, N*H'*W')
    if bs is not None:
        out += bs[:, None]
    return out.reshape(f, n, out_h, out_w).swapaxes(0, 1).copy(), (x, w, b, conv_param)


@names_memory_errors
def conv_backward_im2col(dout: Array, cache: ConvCache) -> tuple[Array, Array, Array | None]:
    """Compute the gradients from the whole column matrix, made again; as conv_backward_fast."""
    backend, dout, x, w, geometry = _conv_backward_arguments("conv_backward_im2col", dout, cache)
    f = geometry.out[1]
    cols = backend.im2col(x, geometry)
    rows = dout.swapaxes(0, 1).reshape(f, cols.shape[1])  # (F, N*H'*W')
    dcols = w.reshape(f, cols.shape[0]).T @ rows
    dx = backend.col2im(dcols, geometry)
    return dx, (rows @ cols.T).reshape(geometry.w), None if cache[2] is None else sum_last(backend.xp, rows)


@names_memory_errors
def conv_forward_strides(x: Array, w: Array, b: Array | None, conv_param: dict[str, Any]) -> tuple[Array, ConvCache]:
    """Convolve by contracting a strided view of the padded images; arguments as conv_forward_fast."""
    backend, xs, ws, bs, geometry = _conv_arguments("conv_forward_strides", x, w, b, conv_param)
    windows = _windows(backend, xs, geometry)
    out = backend.xp.tensordot(ws, windows, axes=((1, 2, 3), (1, 4, 5)))  # (F, N, H', W')
    out = out.swapaxes(0, 1)
    return out.copy() if bs is None else out + bs[:, None, None], (x, w, b, conv_param)


@names_memory_errors
def conv_backward_strides(dout: Array, cache: ConvCache) -> tuple[Array, Array, Array | None]:
    """Compute the gradients from a strided view of the padded images; as conv_backward_fast."""
    backend, dout, x, w, geometry = _conv_backward_arguments("conv_backward_strides", dout, cache)
    n, _, out_h, out_w = geometry.out
    xp = backend.xp
    windows = _windows(backend, x, geometry)
    dw = xp.tensordot(dout, windows, axes=((0, 2, 3), (0, 2, 3)))  # (F, C, HH, WW)
    dcols = xp.tensordot(w, dout, axes=((0,), (1,)))  # (C, HH, WW, N, H', W')
    dx = backend.col2im(dcols.reshape(math.prod(geometry.w[1:]), n * out_h * out_w), geometry)
    return dx, dw, None if cache[2] is None else sum_channels(xp, dout.reshape(n, geometry.out[1], out_h * out_w))


@names_memory_errors
def max_pool_forward_fast(x: Array, pool_param: dict[str, Any]) -> tuple[Array, PoolCache]:
    """Take the maximum of each window; windows may overlap, leave a rest, and hold NaN, which is the maximum.

    H' = 1 + (H - pool_height) // stride, and W' likewise.

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
        The places of the maxima, one byte each (four for windows of more than 256 pixels), and the sizes.

    Raises
    ------
    ValueError
        If the window does not fit, or a key is missing, wrong or unknown.
    TypeError
        If ``x`` is no floating array.

    Examples
    --------
    >>> x = np.arange(25.0).reshape(1, 1, 5, 5)
    >>> max_pool_forward_fast(x, {"pool_height": 2, "pool_width": 2, "stride": 2})[0][0, 0]
    array([[ 6.,  8.],
           [16., 18.]])
    """
    func = "max_pool_forward_fast"
    backend, x = prepare(func, x=x)
    pool = pool_param_geometry(func, x.shape, pool_param)
    out, argmax = backend.max_pool_forward(x, pool)
    return out, (argmax, pool)


@names_memory_errors
def max_pool_backward_fast(dout: Array, cache: PoolCache) -> Array:
    """Send each gradient to the first maximum, in row-major order, of its window.

    Parameters
    ----------
    dout : array, shape (N, C, H', W')
    cache : tuple
        From a ``max_pool_forward`` of this module.

    Returns
    -------
    dx : array, shape (N, C, H, W)

    Raises
    ------
    ValueError
        If ``dout`` has another shape than the output.
    """
    return _max_pool_backward("max_pool_backward_fast", dout, cache)


@names_memory_errors
def max_pool_forward_im2col(x: Array, pool_param: dict[str, Any]) -> tuple[Array, PoolCache]:
    """Take the maxima of a column matrix; arguments as max_pool_forward_fast."""
    func = "max_pool_forward_im2col"
    backend, x = prepare(func, x=x)
    pool = pool_param_geometry(func, x.shape, pool_param)
    columns = pool.columns()
    cols = backend.im2col(x.reshape(columns.x), columns)  # (window, N*C*H'*W')
    return _maxima(backend, cols.T, pool)


@names_memory_errors
def max_pool_backward_im2col(dout: Array, cache: PoolCache) -> Array:
    """Sum a column matrix that holds each gradient at its maximum; as max_pool_backward_fast."""
    func = "max_pool_backward_im2col"
    argmax, pool = opened(func, cache, ARRAY, PoolGeometry)
    backend, dout = prepare(func, dout=dout)
    check_shape(func, "dout", dout, pool.out, "of the output")
    places = backend.xp.arange(math.prod(pool.window))[:, None]
    cols = backend.xp.where(places == argmax.reshape(1, -1), dout.reshape(1, -1), dout.dtype.type(0))
    return backend.col2im(cols, pool.columns()).reshape(pool.x)


@names_memory_errors
def max_pool_forward_reshape(x: Array, pool_param: dict[str, Any]) -> tuple[Array, PoolCache]:
    """Take the maxima of a reshaped x where the windows tile the image, else as max_pool_forward_im2col."""
    func = "max_pool_forward_reshape"
    backend, xs = prepare(func, x=x)
    pool = pool_param_geometry(func, xs.shape, pool_param)
    (n, c, h, w), (height, width) = pool.x, pool.window
    if pool.stride != pool.window or h % height or w % width:
        return max_pool_forward_im2col(x, pool_param)
    tiles = xs.reshape(n, c, h // height, height, w // width, width).swapaxes(3, 4)  # (N, C, H', W', ph, pw)
    return _maxima(backend, tiles.reshape(math.prod(pool.out), height * width), pool)


@names_memory_errors
def max_pool_backward_reshape(dout: Array, cache: PoolCache) -> Array:
    """Send each gradient to its maximum; as max_pool_backward_fast, in which ties go to the first."""
    return _max_pool_backward("max_pool_backward_reshape", dout, cache)


@names_memory_errors
def avg_pool_forward_fast(x: Array, pool_param: dict[str, Any]) -> tuple[Array, PoolGeometry]:
    """Take the mean of each window; windows may overlap, and leave a rest.

    H' = 1 + (H - pool_height) // stride, and W' likewise.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    pool_param : dict
        As in max_pool_forward_fast.

    Returns
    -------
    out : array, shape (N, C, H', W')
    cache : PoolGeometry
        The sizes.

    Raises
    ------
    ValueError
        If the window does not fit, or a key is missing, wrong or unknown.
    TypeError
        If ``x`` is no floating array.

    Examples
    --------
    >>> x = np.arange(25.0).reshape(1, 1, 5, 5)
    >>> avg_pool_forward_fast(x, {"pool_height": 2, "pool_width": 2, "stride": 2})[0][0, 0]
    array([[ 3.,  5.],
           [13., 15.]])
    """
    func = "avg_pool_forward_fast"
    backend, x = prepare(func, x=x)
    pool = pool_param_geometry(func, x.shape, pool_param)
    return backend.avg_pool_forward(x, pool), pool


@names_memory_errors
def avg_pool_backward_fast(dout: Array, cache: PoolGeometry) -> Array:
    """Send each gradient, in equal parts, to the pixels of its window.

    Parameters
    ----------
    dout : array, shape (N, C, H', W')
    cache : PoolGeometry
        From avg_pool_forward_fast.

    Returns
    -------
    dx : array, shape (N, C, H, W)

    Raises
    ------
    ValueError
        If ``dout`` has another shape than the output.
    """
    func = "avg_pool_backward_fast"
    check_cache(func, cache, PoolGeometry)
    backend, dout = prepare(func, dout=dout)
    check_shape(func, "dout", dout, cache.out, "of the output")
    return backend.avg_pool_backward(dout, cache)


def _conv_arguments(
    func: str, x: Array, w: Array, b: Array | None, conv_param: dict[str, Any]
) -> tuple[Backend, Array, Array, Array | None, ConvGeometry]:
    backend, xs, ws, bs = prepare_layer(func, x, w, b)
    return backend, xs, ws, bs, conv_param_geometry(func, xs, ws, conv_param, bs)


def _conv_backward_arguments(
    func: str, dout: Array, cache: ConvCache
) -> tuple[Backend, Array, Array, Array, ConvGeometry]:
    x, w, _, conv_param = opened(func, cache, ARRAY, ARRAY, BIAS, PARAM)
    backend, dout, xs, ws = prepare(func, dout=dout, x=x, w=w)
    geometry = conv_param_geometry(func, xs, ws, conv_param)
    check_shape(func, "dout", dout, geometry.out, "of the output")
    return backend, dout, xs, ws, geometry


def _windows(backend: Backend, x: Array, geometry: ConvGeometry) -> Array:
    """Return the view (N, C, H', W', HH, WW) of the padded images, or as much copied."""
    near = near_windows(geometry)
    if near is not None:
        out = backend.xp.zeros((*geometry.x[:2], *geometry.out[2:], *geometry.w[2:]), x.dtype)
        some = _windows(backend, near.of(backend.xp, x), near.geometry)
        out[(slice(None), slice(None), *near.places)] = some[:, :, : near.geometry.out[2], : near.geometry.out[3]]
        return out
    (pad_y, pad_x), (stride_y, stride_x) = geometry.pad, geometry.stride
    padded = backend.xp.pad(x, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    view = backend.xp.lib.stride_tricks.sliding_window_view(padded, geometry.w[2:], axis=(2, 3))
    return view[:, :, ::stride_y, ::stride_x]


def _maxima(backend: Backend, windows: Array, pool: PoolGeometry) -> tuple[Array, PoolCache]:
    """Return the pooled array and the cache from windows (N*C*H'*W', window)."""
    argmax = windows.argmax(axis=1)
    out = backend.xp.take_along_axis(windows, argmax[:, None], axis=1).reshape(pool.out)
    return out, (argmax.astype(argmax_dtype(pool.window)).reshape(pool.out), pool)


def _max_pool_backward(func: str, dout: Array, cache: PoolCache) -> Array:
    argmax, pool = opened(func, cache, ARRAY, PoolGeometry)
    backend, dout = prepare(func, dout=dout)
    check_shape(func, "dout", dout, pool.out, "of the output")
    return backend.max_pool_backward(dout, argmax, pool)
