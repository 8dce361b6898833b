"""Columns and pooling in NumPy, window place by window place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gconv._checks import output_size
from gconv._typing import Array, Pair

__all__ = ["col2im_add", "im2col_into", "max_pool_backward_add", "max_pool_forward_into"]


def _span(offset: int, stride: int, size: int, first: int, last: int) -> tuple[slice, slice]:
    """Return the outputs in [first, last) whose input, out * stride + offset, exists, and those inputs."""
    low = max(first, -(offset // stride))
    high = max(min(last, (size - 1 - offset) // stride + 1), low)
    start = low * stride + offset
    stop = start + max(high - low - 1, -1) * stride + 1
    return slice(low - first, high - first), slice(max(start, 0), max(stop, 0), stride)


def _windows(
    x_shape: tuple[int, ...], field: Pair, stride: Pair, pad: Pair, y_begin: int, y_end: int
) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
    out_w = output_size(x_shape[3], field[1], stride[1], pad[1])
    for hh in range(field[0]):
        out_rows, in_rows = _span(hh - pad[0], stride[0], x_shape[2], y_begin, y_end)
        for ww in range(field[1]):
            out_columns, in_columns = _span(ww - pad[1], stride[1], x_shape[3], 0, out_w)
            yield hh, ww, (out_rows, out_columns), (in_rows, in_columns)


def _as_windows(
    cols: Array, x_shape: tuple[int, ...], field: Pair, stride: Pair, pad: Pair, y_begin: int, y_end: int
) -> Array:
    # cols (C*HH*WW, N*rows*W') seen as (C, HH, WW, N, rows, W')
    out_w = output_size(x_shape[3], field[1], stride[1], pad[1])
    return cols.reshape(x_shape[1], *field, x_shape[0], y_end - y_begin, out_w)


def im2col_into(x: Array, cols: Array, field: Pair, stride: Pair, pad: Pair, y_begin: int, y_end: int) -> None:
    """Write the columns of x for the output rows [y_begin, y_end) to cols."""
    windows = _as_windows(cols, x.shape, field, stride, pad, y_begin, y_end)
    windows[...] = 0
    for hh, ww, (out_rows, out_columns), (in_rows, in_columns) in _windows(x.shape, field, stride, pad, y_begin, y_end):
        windows[:, hh, ww, :, out_rows, out_columns] = x[:, :, in_rows, in_columns].swapaxes(0, 1)


def col2im_add(cols: Array, x: Array, field: Pair, stride: Pair, pad: Pair, y_begin: int, y_end: int) -> None:
    """Add the columns of the output rows [y_begin, y_end) back into x."""
    windows = _as_windows(cols, x.shape, field, stride, pad, y_begin, y_end)
    for hh, ww, (out_rows, out_columns), (in_rows, in_columns) in _windows(x.shape, field, stride, pad, y_begin, y_end):
        x[:, :, in_rows, in_columns] += windows[:, hh, ww, :, out_rows, out_columns].swapaxes(0, 1)


def max_pool_forward_into(x: Array, out: Array, argmax: Array, window: Pair, stride: Pair) -> None:
    """Write the maximum of each window to out and its place to argmax."""
    h, w = out.shape[2:]
    for place in range(window[0] * window[1]):
        row, column = divmod(place, window[1])
        values = x[:, :, row : row + stride[0] * h : stride[0], column : column + stride[1] * w : stride[1]]
        if place == 0:
            out[...], argmax[...] = values, 0
            continue
        better = (values > out) | (np.isnan(values) & ~np.isnan(out))
        np.copyto(out, values, where=better)
        np.copyto(argmax, argmax.dtype.type(place), where=better)


def max_pool_backward_add(dout: Array, argmax: Array, dx: Array, window: Pair, stride: Pair) -> None:
    """Add each gradient in dout to the pixel of dx that its window's maximum came from."""
    h, w = dout.shape[2:]
    for place in range(window[0] * window[1]):
        row, column = divmod(place, window[1])
        target = dx[:, :, row : row + stride[0] * h : stride[0], column : column + stride[1] * w : stride[1]]
        target += np.where(argmax == place, dout, dout.dtype.type(0))
