"""Columns and pooling in NumPy, window place by window place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gconv._typing import Array
from gconv.geometry import ConvGeometry, PoolGeometry

__all__ = ["col2im_add", "im2col_into", "max_pool_backward_add", "max_pool_forward_into"]


def _span(offset: int, stride: int, size: int, first: int, last: int) -> tuple[slice, slice]:
    """Return the outputs in [first, last) whose input, out * stride + offset, exists, and those inputs."""
    low = max(first, -(offset // stride))
    high = max(min(last, (size - 1 - offset) // stride + 1), low)
    start = low * stride + offset
    stop = start + max(high - low - 1, -1) * stride + 1
    return slice(low - first, high - first), slice(max(start, 0), max(stop, 0), stride)


def _windows(
    g: ConvGeometry, y_begin: int, y_end: int
) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
    for hh in range(g.w[2]):
        out_rows, in_rows = _span(hh - g.pad[0], g.stride[0], g.x[2], y_begin, y_end)
        for ww in range(g.w[3]):
            out_columns, in_columns = _span(ww - g.pad[1], g.stride[1], g.x[3], 0, g.out[3])
            yield hh, ww, (out_rows, out_columns), (in_rows, in_columns)


def _as_windows(cols: Array, images: int, g: ConvGeometry, y_begin: int, y_end: int) -> Array:
    # cols (C*HH*WW, images*rows*W') seen as (C, HH, WW, images, rows, W')
    return cols.reshape(g.x[1], *g.w[2:], images, y_end - y_begin, g.out[3])


def im2col_into(x: Array, cols: Array, geometry: ConvGeometry, y_begin: int, y_end: int) -> None:
    """Write the columns of x, some of the geometry's images, for the output rows [y_begin, y_end) to cols."""
    windows = _as_windows(cols, len(x), geometry, y_begin, y_end)
    windows[...] = 0
    for hh, ww, (out_rows, out_columns), (in_rows, in_columns) in _windows(geometry, y_begin, y_end):
        windows[:, hh, ww, :, out_rows, out_columns] = x[:, :, in_rows, in_columns].swapaxes(0, 1)


def col2im_add(cols: Array, x: Array, geometry: ConvGeometry, y_begin: int, y_end: int) -> None:
    """Add the columns of the output rows [y_begin, y_end) back into x, some of the geometry's images."""
    windows = _as_windows(cols, len(x), geometry, y_begin, y_end)
    for hh, ww, (out_rows, out_columns), (in_rows, in_columns) in _windows(geometry, y_begin, y_end):
        x[:, :, in_rows, in_columns] += windows[:, hh, ww, :, out_rows, out_columns].swapaxes(0, 1)


def max_pool_forward_into(x: Array, out: Array, argmax: Array, pool: PoolGeometry) -> None:
    """Write the maximum of each window to out and its place to argmax."""
    for place, pixels in enumerate(pool.places()):
        values = x[pixels]
        if place == 0:
            out[...], argmax[...] = values, 0
            continue
        better = (values > out) | (np.isnan(values) & ~np.isnan(out))
        np.copyto(out, values, where=better)
        np.copyto(argmax, argmax.dtype.type(place), where=better)


def max_pool_backward_add(dout: Array, argmax: Array, dx: Array, pool: PoolGeometry) -> None:
    """Add each gradient in dout to the pixel of dx that its window's maximum came from."""
    for place, pixels in enumerate(pool.places()):
        dx[pixels] += np.where(argmax == place, dout, dout.dtype.type(0))
