"""What the gpu backend does about a full device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import cupy

__all__ = ["names_memory"]

Method = TypeVar("Method", bound=Callable[..., Any])


def names_memory(method: Method) -> Method:
    """Turn CuPy's out-of-memory error into a MemoryError that names the operation, the bytes and the batch size."""

    @functools.wraps(method)
    def named(self: Any, first: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return method(self, first, *arguments, **options)
        except cupy.cuda.memory.OutOfMemoryError as error:
            batch = f"a batch of {first.shape[0]}" if getattr(first, "ndim", 0) else "its arrays"
            raise MemoryError(
                f"{method.__name__}: the device must have room for {batch}; got: {error}. Use a smaller batch, or "
                "free arrays and call cupy.get_default_memory_pool().free_all_blocks()"
            ) from error

    return named  # type: ignore[return-value]
