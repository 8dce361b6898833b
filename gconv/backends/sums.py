"""Sums of many values, a group at a time: a running sum of float32 ones stops growing at 2**24 of them."""

from __future__ import annotations

from typing import Any

from gconv._typing import Array

__all__ = ["centred", "sum_channels", "sum_last", "sum_rows"]

# Sums of so many rows are what they are by themselves; those of more are sums of sums.
GROUP = 256


def sum_rows(xp: Any, x: Array) -> Array:
    """Return the sums over the first axis, in a fixed order."""
    while len(x) > GROUP:
        whole = len(x) // GROUP
        parts = x[: whole * GROUP].reshape(whole, GROUP, *x.shape[1:]).sum(axis=1)
        x = xp.concatenate([parts, x[whole * GROUP :].sum(axis=0)[None]])
    return x.sum(axis=0)


def sum_last(xp: Any, x: Array) -> Array:
    """Return the sums over the last axis."""
    # NumPy adds neighbours in pairs of pairs, and what lies apart one after the other.
    return x.sum(axis=-1) if x.strides[-1] == x.itemsize else sum_rows(xp, xp.moveaxis(x, -1, 0))


def sum_channels(xp: Any, x: Array) -> Array:
    """Return the sums (C,) of x (N, C, P)."""
    return sum_rows(xp, sum_last(xp, x))


def centred(xp: Any, x: Array, mean: Array, mean_of: Any) -> tuple[Array, Array]:
    """Return x less its mean, and the mean, both after the rounding of the first mean was taken back.

    So a constant is 0 there, however large it is. ``mean_of(x)`` returns a mean as it is subtracted from x.
    """
    difference = x - mean
    mean = mean + mean_of(difference)
    return xp.subtract(x, mean, out=difference), mean
