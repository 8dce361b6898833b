"""Images laid out in a grid, as an array."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gconv._checks import check_ndim
from gconv._typing import Array
from gconv.backends import get_backend

__all__ = ["filter_grid", "stretched", "tiled"]

# Between filters, where black or white would look like part of one.
BACKGROUND = (0.76, 0.84, 0.93)


def filter_grid(w: Array) -> Array:
    """Lay convolution filters out in one picture.

    Three channels are shown as colours, each filter stretched to the full range by itself; of any other
    number every channel is shown as a grey picture of its own, one row a filter.

    Parameters
    ----------
    w : array, shape (F, C, HH, WW)

    Returns
    -------
    float64 NumPy array, shape (rows, columns, 3)
        In [0, 1], for ``matplotlib.pyplot.imshow``.

    Raises
    ------
    ValueError
        For another number of axes, or no filter.
    """
    check_ndim("filter_grid", "w", w, 4, "(F, C, HH, WW)")
    filters = get_backend(w).to_numpy(w)
    f, c, hh, ww = filters.shape
    if not filters.size:
        raise ValueError(f"filter_grid: w must hold at least one filter; got shape {filters.shape}")
    pictures = filters.transpose(0, 2, 3, 1) if c == 3 else filters.reshape(f * c, hh, ww, 1)
    tiles = np.stack([np.broadcast_to(stretched(picture), (hh, ww, 3)) for picture in pictures])
    return tiled(tiles, 1, BACKGROUND, columns=None if c in (1, 3) else c)


def stretched(values: Array) -> Array:
    """Return ``values`` stretched to [0, 1]; constant ones become 0."""
    if not values.size:
        return values
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def tiled(images: Array, padding: int, fill: Any, border: bool = False, columns: int | None = None) -> Array:
    """Lay images (N, H, W, C) out in a grid, row by row; ``border`` pads after the last ones too."""
    n, h, w, c = images.shape
    side = max(math.ceil(math.sqrt(n)), 1)
    rows, columns = (side, side) if columns is None else (math.ceil(n / columns), columns)
    edge = padding if border else 0
    grid = np.empty((rows * (h + padding) - padding + edge, columns * (w + padding) - padding + edge, c))
    grid[...] = fill
    for index, image in enumerate(images):
        top, left = index // columns * (h + padding), index % columns * (w + padding)
        grid[top : top + h, left : left + w] = image
    return grid
