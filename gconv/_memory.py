"""Out of memory: the error says in which layer, for which arrays and what batch."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from gconv.backends import array_kind

__all__ = ["free_frames", "names_memory_errors"]

P = ParamSpec("P")
R = TypeVar("R")


# What can be done about a full device, which CuPy's own message does not say.
DEVICE_HINT = " Use a smaller batch, or free arrays and call cupy.get_default_memory_pool().free_all_blocks()"


class LayerMemoryError(MemoryError):
    """A MemoryError that has been named; a sandwich of layers lets that of its layer pass."""


def names_memory_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Let the MemoryErrors of a layer, of NumPy's as of a device's memory, name it and the shapes of its arrays."""

    @functools.wraps(function)
    def layer(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except LayerMemoryError:
            raise
        except MemoryError as error:
            arrays = [a for a in (*args, *kwargs.values()) if hasattr(a, "shape") and hasattr(a, "dtype")]
            listed = ", ".join(f"{tuple(a.shape)} {a.dtype}" for a in arrays)
            batch = f"; the batch has {arrays[0].shape[0]}" if arrays and arrays[0].shape else ""
            hint = DEVICE_HINT if any(array_kind(a) == "cupy" for a in arrays) else ""
            raise LayerMemoryError(
                f"{function.__name__}: no memory for arguments {listed}{batch}. {error}{hint}"
            ) from error

    return layer


def free_frames(error: BaseException) -> None:
    """Clear the local variables of the calls that ended with ``error``, which would live as long as it is kept."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
