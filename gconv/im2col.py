"""The course's im2col: columns of convolution windows by fancy indexing, and their sum back.

The column layout here is the course's, with columns ordered (y, x, n). The backends' own ``im2col`` has the
columns ordered (n, y, x), which lets a batch be worked on in pieces.
"""

from __future__ import annotations

import math

import numpy as np

from gconv._arguments import prepare
from gconv._checks import check_shape
from gconv._memory import names_memory_errors
from gconv._typing import Array
from gconv.geometry import window_geometry

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
    g = window_geometry(func, x_shape, field_height, field_width, padding, stride)
    k, hh, ww = (a.reshape(-1, 1) for a in np.indices(g.w[1:]))  # (C*HH*WW, 1) each
    y, x = (a.reshape(1, -1) for a in np.indices(g.out[2:]))  # (1, H'*W') each
    return k, hh + g.stride[0] * y, ww + g.stride[1] * x


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
    geometry = window_geometry(func, x.shape, field_height, field_width, padding, stride)
    cols = backend.im2col(x, geometry)  # (C*HH*WW, N*H'*W')
    return cols.reshape(cols.shape[0], x.shape[0], math.prod(geometry.out[2:])).swapaxes(1, 2).reshape(cols.shape)


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
    geometry = window_geometry(func, x_shape, field_height, field_width, padding, stride)
    n, pixels, rows = x_shape[0], math.prod(geometry.out[2:]), math.prod(geometry.w[1:])
    check_shape(func, "cols", cols, (rows, pixels * n), f"to match x_shape {tuple(x_shape)}")
    ordered = cols.reshape(rows, pixels, n).swapaxes(1, 2).reshape(rows, n * pixels)
    return backend.col2im(ordered, geometry)
