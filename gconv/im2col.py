"""The course's im2col: columns of convolution windows by fancy indexing, and their sum back.

The column layout here is the course's, with columns ordered (y, x, n). The backends' own ``im2col`` has the
columns ordered (n, y, x), which lets a batch be worked on in pieces.
"""

from __future__ import annotations

import numpy as np

from gconv._arguments import prepare
from gconv._checks import check_shape, int_pair, output_size, positive_int
from gconv._memory import names_memory_errors
from gconv._typing import Array

__all__ = ["col2im_indices", "get_im2col_indices", "im2col_indices"]


@names_memory_errors
def get_im2col_indices(
    x_shape: tuple[int, int, int, int], field_height: int, field_width: int, padding: int = 1, stride: int = 1
) -> tuple[Array, Array, Array]:
    """Return the indices (k, i, j) of every window into the padded images.

    Parameters
    ----------
    x_shape : tuple
        (N, C, H, W), before padding.
    field_height, field_width : int
        Size of the window, HH and WW.
    padding, stride : int or (vertical, horizontal) pair

    Returns
    -------
    k : int array, shape (C HH WW, 1)
        Channel.
    i, j : int array, shape (C HH WW, H' W')
        Row and column in the padded image: ``x_padded[:, k, i, j]`` has shape (N, C HH WW, H' W').

    Raises
    ------
    ValueError
        If the window does not fit into the padded image, or a size is out of range.

    Examples
    --------
    >>> k, i, j = get_im2col_indices((1, 2, 4, 4), 3, 3)
    >>> k.shape, i.shape, j.shape
    ((18, 1), (18, 16), (18, 16))
    """
    func = "get_im2col_indices"
    field, _, step, out = _geometry(func, x_shape, field_height, field_width, padding, stride)
    channels = x_shape[1]
    k, hh, ww = (a.reshape(-1, 1) for a in np.indices((channels, *field)))  # (C*HH*WW, 1) each
    y, x = (a.reshape(1, -1) for a in np.indices(out))  # (1, H'*W') each
    return k, hh + step[0] * y, ww + step[1] * x


@names_memory_errors
def im2col_indices(x: Array, field_height: int, field_width: int, padding: int = 1, stride: int = 1) -> Array:
    """Return the windows of x as columns: rows (c, hh, ww), columns (y, x, n).

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    field_height, field_width : int
        Size of the window, HH and WW.
    padding, stride : int or (vertical, horizontal) pair

    Returns
    -------
    cols : array, shape (C HH WW, H' W' N)

    Raises
    ------
    ValueError
        If the window does not fit into the padded image, or a size is out of range.
    """
    func = "im2col_indices"
    backend, x = prepare(func, x=x)
    field, pad, step, out = _geometry(func, x.shape, field_height, field_width, padding, stride)
    cols = backend.im2col(x, field, step, pad)  # (C*HH*WW, N*H'*W')
    return cols.reshape(cols.shape[0], x.shape[0], out[0] * out[1]).swapaxes(1, 2).reshape(cols.shape)


@names_memory_errors
def col2im_indices(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> Array:
    """Return the sum of the columns into images, the adjoint of im2col_indices.

    Parameters
    ----------
    cols : array, shape (C HH WW, H' W' N)
        Columns ordered (y, x, n).
    x_shape : tuple
        (N, C, H, W)
    field_height, field_width : int
        Size of the window, HH and WW.
    padding, stride : int or (vertical, horizontal) pair

    Returns
    -------
    x : array, shape (N, C, H, W)

    Raises
    ------
    ValueError
        If ``cols`` has another shape, the window does not fit, or a size is out of range.
    """
    func = "col2im_indices"
    backend, cols = prepare(func, cols=cols)
    field, pad, step, out = _geometry(func, x_shape, field_height, field_width, padding, stride)
    n, pixels, rows = x_shape[0], out[0] * out[1], x_shape[1] * field[0] * field[1]
    check_shape(func, "cols", cols, (rows, pixels * n), f"to match x_shape {tuple(x_shape)}")
    ordered = cols.reshape(rows, pixels, n).swapaxes(1, 2).reshape(rows, n * pixels)
    return backend.col2im(ordered, tuple(x_shape), field, step, pad)


def _geometry(
    func: str, x_shape: tuple[int, ...], field_height: int, field_width: int, padding: int, stride: int
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
    if len(x_shape) != 4:
        raise ValueError(f"{func}: x must have 4 axes (N, C, H, W); got shape {tuple(x_shape)}")
    field = positive_int(func, "field_height", field_height), positive_int(func, "field_width", field_width)
    pad, step = int_pair(func, "padding", padding, 0), int_pair(func, "stride", stride, 1)
    padded = x_shape[2] + 2 * pad[0], x_shape[3] + 2 * pad[1]
    if field[0] > padded[0] or field[1] > padded[1]:
        raise ValueError(
            f"{func}: the window must fit into the padded image {padded[0]}x{padded[1]}; got {field[0]}x{field[1]}"
        )
    out = output_size(x_shape[2], field[0], step[0], pad[0]), output_size(x_shape[3], field[1], step[1], pad[1])
    return field, pad, step, out
