"""Pictures: grids of images as arrays, and plots of a training run as files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gconv._checks import check_ndim, integer
from gconv._typing import Array
from gconv.results.grids import filter_grid, stretched, tiled
from gconv.results.plots import plot_confusion, plot_filters, plot_history, plot_mistakes

__all__ = [
    "filter_grid",
    "plot_confusion",
    "plot_filters",
    "plot_history",
    "plot_mistakes",
    "vis_grid",
    "vis_nn",
    "visualize_grid",
]


def visualize_grid(Xs: Array, ubound: float = 255.0, padding: int = 1) -> Array:
    """Lay images out in a square grid, each stretched to [0, ubound] by itself.

    Parameters
    ----------
    Xs : array, shape (N, H, W, C)
    ubound : float
        The largest value of each image; a constant image becomes 0.
    padding : int
        Pixels of 0 between two images.

    Returns
    -------
    grid : array, shape (rows, columns, C)
        float64, ceil(sqrt(N)) images in each direction.

    Examples
    --------
    >>> visualize_grid(np.random.rand(5, 8, 8, 3)).shape
    (26, 26, 3)
    """
    check_ndim("visualize_grid", "Xs", Xs, 4, "(N, H, W, C)")
    images = np.asarray(Xs, dtype=np.float64)
    scaled = np.zeros(images.shape)
    for image, out in zip(images, scaled, strict=True):
        out[...] = ubound * stretched(image)
    return tiled(scaled, integer("visualize_grid", "padding", padding, 0), 0.0)


def vis_grid(Xs: Array) -> Array:
    """Lay images (N, H, W, C) out in a square grid, all stretched to [0, 1] together."""
    check_ndim("vis_grid", "Xs", Xs, 4, "(N, H, W, C)")
    images = np.asarray(Xs, dtype=np.float64)
    return stretched(tiled(images, 1, images.min() if images.size else 0.0, border=True))


def vis_nn(rows: Sequence[Sequence[Array]]) -> Array:
    """Lay rows of images, each (H, W, C), out as they are, all stretched to [0, 1] together."""
    if not rows or not len(rows[0]) or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError(
            f"vis_nn: rows must be sequences of one length, not empty; got lengths {[len(r) for r in rows]}"
        )
    images = np.asarray([image for row in rows for image in row], dtype=np.float64)
    check_ndim("vis_nn", "each image", images[0], 3, "(H, W, C)")
    return stretched(tiled(images, 1, images.min(), border=True, columns=len(rows[0])))
