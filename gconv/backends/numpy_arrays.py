"""What every backend of NumPy arrays does with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv._typing import Array

__all__ = ["NumpyArrays"]


class NumpyArrays:
    """The methods of a Backend that concern the array module alone."""

    xp = np

    def asarray(self, x: Array, dtype: Any = None) -> Array:
        """Return ``x`` as a NumPy array in native byte order."""
        array = np.asarray(x, dtype=dtype)
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def to_numpy(self, x: Array) -> Array:
        """Return ``x`` itself."""
        return x

    def synchronize(self) -> None:
        """Do nothing: NumPy computes before it returns."""

    def warmup(self, dtype: str) -> None:
        """Do nothing: what is compiled was compiled when gconv was installed."""
