"""Data augmentation: what to draw for a minibatch. The backends' ``augment`` applies it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gconv._checks import integer
from gconv._typing import Array

__all__ = ["Augment"]


@dataclass(frozen=True)
class Augment:
    """Random changes of the images of each minibatch, for a Solver's ``augment``.

    Parameters
    ----------
    flip : bool
        Mirror an image left to right, with probability 1/2.
    crop : int
        Surround an image with so many pixels of 0, and cut it out again at a random place.
    cutout : int
        Set a square of so many pixels a side to 0, its centre anywhere in the image, the square cut at the edges.

    Images have zeros where there was nothing: where the mean image was subtracted, 0 is the mean.

    Raises
    ------
    ValueError, TypeError
        For negative numbers, or other types.

    References
    ----------
    He et al., "Deep residual learning for image recognition", 2016, for flip and crop (theirs: 4 pixels);
    DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.

    Examples
    --------
    >>> Augment(crop=4).draw(np.random.default_rng(0), 2, 32, 32).shape
    (2, 5)
    """

    flip: bool = True
    crop: int = 0
    cutout: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.flip, bool):
            raise TypeError(f"Augment: flip must be True or False; got {self.flip!r}")
        integer("Augment", "crop", self.crop, 0)
        integer("Augment", "cutout", self.cutout, 0)

    def draw(self, rng: np.random.Generator | None, n: int, height: int, width: int) -> Array:
        """Draw the changes of ``n`` images, int32 (n, 5): top, left, mirrored, cutout's top and left.

        ``rng`` None draws from NumPy's global state. What is switched off draws nothing.
        """
        integers: Callable[..., Array] = np.random.randint if rng is None else rng.integers
        draws = np.zeros((n, 5), np.int32)
        if self.crop:
            draws[:, 0] = integers(-self.crop, self.crop + 1, n)
            draws[:, 1] = integers(-self.crop, self.crop + 1, n)
        if self.flip:
            draws[:, 2] = integers(0, 2, n)
        if self.cutout:
            draws[:, 3] = integers(0, height, n) - self.cutout // 2
            draws[:, 4] = integers(0, width, n) - self.cutout // 2
        return draws
