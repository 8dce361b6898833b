"""The activations that an operation can end with, by name."""

from __future__ import annotations

from typing import Any

from gconv._typing import Array

__all__ = ["activate", "activation_code"]

# The numbers by which the kernels know them.
_CODES = {None: 0, "relu": 1}


def activation_code(func: str, activation: str | None) -> int:
    """Return the kernels' number of an activation, 0 for none.

    Raises
    ------
    ValueError
        For a name that is none of an activation.

    Examples
    --------
    >>> activation_code("demo", None), activation_code("demo", "relu")
    (0, 1)
    """
    try:
        return _CODES[activation]
    except (KeyError, TypeError):
        names = ", ".join(map(repr, _CODES))
        raise ValueError(f"{func}: activation must be one of {names}; got {activation!r}") from None


def activate(func: str, xp: Any, out: Array, activation: str | None) -> Array:
    """Apply an activation to ``out``, an array of the module ``xp``, in place, and return it."""
    return xp.maximum(out, 0, out=out) if activation_code(func, activation) else out
