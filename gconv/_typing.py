"""Type aliases shared by the package."""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["Array", "Sizes"]

# NumPy and CuPy arrays share no base class, and naming CuPy here would import it.
Array: TypeAlias = Any
# Of an array's axes, or one value per spatial axis.
Sizes: TypeAlias = tuple[int, ...]
