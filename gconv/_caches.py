"""Caches that a forward pass gives its backward pass: whether one is of the right layer."""

from __future__ import annotations

from typing import Any

__all__ = ["ARRAY", "BIAS", "PARAM", "check_cache", "opened"]

# What stands in a cache, beside the types of this package, and tuples of such kinds.
ARRAY, BIAS, PARAM = "array", "array or None", "dictionary"


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, type):
        return isinstance(value, kind)
    if kind == PARAM:
        return isinstance(value, dict)
    if isinstance(kind, tuple):
        return type(value) is tuple and len(value) == len(kind) and all(map(_is, value, kind))
    return (hasattr(value, "dtype") and hasattr(value, "shape")) or (value is None and kind == BIAS)


def opened(func: str, cache: Any, *kinds: Any) -> tuple[Any, ...]:
    """Return what is in a cache; each of ``kinds`` is a type, one of the words above, or a tuple of such.

    Raises
    ------
    TypeError
        For what another layer's forward pass returned, one part of a cache, or no cache; the message names the function
        that it comes from.
    """
    check_cache(func, cache, kinds)
    found: tuple[Any, ...] = cache
    return found


def check_cache(func: str, cache: Any, kind: Any) -> None:
    """Raise TypeError, as ``opened`` does, unless the whole cache is of one kind."""
    if not _is(cache, kind):
        raise _wrong(func, cache)


def _wrong(func: str, cache: Any) -> TypeError:
    source = func.removesuffix("_alt").replace("backward", "forward")
    return TypeError(f"{func}: cache must come from {source}; got {_described(cache)}")


def _described(value: Any) -> str:
    if type(value) is tuple:
        return f"a tuple of {', '.join(type(item).__name__ for item in value) or 'nothing'}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    return type(value).__name__
