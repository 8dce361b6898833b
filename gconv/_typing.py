"""Type aliases shared by the package."""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["Array", "Pair"]

# NumPy and CuPy arrays share no base class, and naming CuPy here would import it.
Array: TypeAlias = Any
Pair: TypeAlias = tuple[int, int]
