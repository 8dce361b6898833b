"""Arrays to write to beside those that are read."""

from __future__ import annotations

from typing import Any

from gconv._typing import Array
from gconv.backends import get_backend

__all__ = ["TwoArrays"]


class TwoArrays:
    """Two arrays for each array that a step replaces, written to in turn, and never one that somebody else holds.

    A step then needs no new memory, and what stood before it is still there when it was interrupted, or the next loss
    is not finite.
    """

    def __init__(self) -> None:
        self._pairs: dict[Any, tuple[Array, ...]] = {}

    def other(self, key: Any, current: Array | None, like: Array) -> Array:
        """Return the array of a pair that ``current`` is not."""
        pair = self._pairs.get(key, ())
        for array in pair:
            if array is not current and array.shape == like.shape and array.dtype == like.dtype:
                return array
        fresh = get_backend(like).xp.empty(like.shape, like.dtype)
        self._pairs[key] = (*(a for a in pair if a is current), fresh)
        return fresh
