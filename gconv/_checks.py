"""Shape rules and argument checks, the same for every backend.

Every message reads ``function: argument must <rule>; got <value>``. Shapes and dtypes are read, never
the values of an array that may live on a device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from gconv._typing import Array, Pair

__all__ = [
    "ConvShape",
    "PoolShape",
    "check_labels",
    "check_shape",
    "common_dtype",
    "conv_shape",
    "int_pair",
    "one_of",
    "output_size",
    "param",
    "pool_shape",
    "positive_int",
    "real_number",
]

FLOATS = (np.float32, np.float64)
LARGEST_SIZE = 2**60  # 8 bytes each: sizes in bytes still fit into 64 bits with a sign


class ConvShape(NamedTuple):
    """The sizes of one convolution: x (N, C, H, W), w (F, C, HH, WW), out (N, F, H', W')."""

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    out: tuple[int, int, int, int]
    stride: Pair
    pad: Pair


class PoolShape(NamedTuple):
    """The sizes of one pooling: x (N, C, H, W), out (N, C, H', W')."""

    x: tuple[int, int, int, int]
    out: tuple[int, int, int, int]
    window: Pair
    stride: Pair


def output_size(size: int, field: int, stride: int, pad: int = 0) -> int:
    """Return H' = 1 + (H + 2 pad - HH) // stride, the number of places that a window takes.

    >>> output_size(32, 7, 1, 3), output_size(31, 3, 2, 1), output_size(7, 2, 2)
    (32, 16, 3)
    """
    return 1 + (size + 2 * pad - field) // stride


def common_dtype(func: str, **arrays: Array) -> np.dtype[Any]:
    """Return float32 or float64, the result type of the floating arrays; integers follow them.

    Raises
    ------
    TypeError
        For complex, object, string, float16 or long double arrays, and where no array is floating.
    """
    found = None
    for name, array in arrays.items():
        kind, scalar = array.dtype.kind, array.dtype.type
        if kind == "f" and scalar in FLOATS:
            found = scalar if found is None or scalar is np.float64 else found
        elif kind not in "biu":
            raise TypeError(f"{func}: {name} must be float32, float64 or integer; got dtype {array.dtype}")
    if found is None:
        names = ", ".join(arrays)
        dtypes = ", ".join(str(array.dtype) for array in arrays.values())
        rule = "must be" if len(arrays) == 1 else "must have among them an array of"
        raise TypeError(f"{func}: {names} {rule} float32 or float64; got {dtypes}")
    dtype: np.dtype[Any] = np.dtype(found)
    return dtype


def check_shape(func: str, name: str, array: Array, expected: tuple[int, ...], why: str = "") -> None:
    """Raise ValueError unless ``array`` has exactly the shape ``expected``; ``why`` ends the rule."""
    if tuple(array.shape) != tuple(expected):
        reason = f" {why}" if why else ""
        raise ValueError(f"{func}: {name} must have shape {tuple(expected)}{reason}; got {tuple(array.shape)}")


def check_ndim(func: str, name: str, array: Array, ndim: int, axes: str) -> None:
    """Raise ValueError unless ``array`` has ``ndim`` axes; ``axes`` names them, as "(N, C, H, W)"."""
    if array.ndim != ndim:
        raise ValueError(f"{func}: {name} must have {ndim} axes {axes}; got shape {tuple(array.shape)}")


def param(func: str, name: str, mapping: Any, key: str) -> Any:
    """Return ``mapping[key]``, or raise an error that names the dictionary and the missing key."""
    if type(mapping) is not dict and not isinstance(mapping, Mapping):
        raise TypeError(f"{func}: {name} must be a dictionary; got {type(mapping).__name__}")
    if key not in mapping:
        raise ValueError(f"{func}: {name} must have the key {key!r}; got the keys {sorted(map(str, mapping))}")
    return mapping[key]


def positive_int(func: str, name: str, value: Any, minimum: int = 1) -> int:
    """Return ``value`` as an int of at least ``minimum``."""
    if type(value) is int and value >= minimum:
        return value
    rule = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{func}: {name} must be {rule}; got {value!r}")
    if not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{func}: {name} must be {rule}; got {value!r}")
    return int(value)


def real_number(func: str, name: str, value: Any, low: float = -np.inf, high: float = np.inf) -> float:
    """Return ``value`` as a finite float in [low, high]."""
    if type(value) is float and math.isfinite(value) and low <= value <= high:
        return value
    rule = f"be a number in [{low:g}, {high:g}]"
    if isinstance(value, (bool, np.bool_, str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{func}: {name} must {rule}; got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{func}: {name} must {rule}; got {value!r}")
    return number


def one_of(func: str, name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """Return ``value`` if it is one of ``allowed``."""
    if not any(value is item or (isinstance(value, str) and value == item) for item in allowed):
        raise ValueError(f"{func}: {name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
    return value


def int_pair(func: str, name: str, value: Any, minimum: int) -> Pair:
    """Return a (vertical, horizontal) pair from an int or a pair of ints of at least ``minimum``."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return _kernel_int(func, name, value[0], minimum), _kernel_int(func, name, value[1], minimum)
    if isinstance(value, (tuple, list)):
        raise ValueError(f"{func}: {name} must be an integer or a (vertical, horizontal) pair; got {value!r}")
    both = _kernel_int(func, name, value, minimum)
    return both, both


def _kernel_int(func: str, name: str, value: Any, minimum: int) -> int:
    number = positive_int(func, name, value, minimum)
    if number >= 2**31:  # the kernels multiply these with sizes in 64 bits
        raise ValueError(f"{func}: {name} must be below 2**31; got {value!r}")
    return number


def conv_shape(func: str, x: Array, w: Array, conv_param: Any, b: Array | None = None) -> ConvShape:
    """Check the arguments of a convolution and return its sizes."""
    check_ndim(func, "x", x, 4, "(N, C, H, W)")
    check_ndim(func, "w", w, 4, "(F, C, HH, WW)")
    stride = int_pair(func, "conv_param['stride']", param(func, "conv_param", conv_param, "stride"), 1)
    pad = int_pair(func, "conv_param['pad']", param(func, "conv_param", conv_param, "pad"), 0)
    (n, c, h, width), (f, wc, hh, ww) = x.shape, w.shape
    if wc != c:
        raise ValueError(f"{func}: w must have {c} channels to match x {tuple(x.shape)}; got w {tuple(w.shape)}")
    if hh < 1 or ww < 1:
        raise ValueError(f"{func}: w must have filters of at least 1x1; got w {tuple(w.shape)}")
    if b is not None:
        check_shape(func, "b", b, (f,), f"to match w {tuple(w.shape)}")
    if hh > h + 2 * pad[0] or ww > width + 2 * pad[1]:
        raise ValueError(
            f"{func}: w must fit into the padded image {h + 2 * pad[0]}x{width + 2 * pad[1]}; got filters {hh}x{ww}"
        )
    out = (n, f, output_size(h, hh, stride[0], pad[0]), output_size(width, ww, stride[1], pad[1]))
    _check_size(func, out)
    return ConvShape((n, c, h, width), (f, c, hh, ww), out, stride, pad)


def pool_shape(func: str, x_shape: tuple[int, ...], pool_param: Any) -> PoolShape:
    """Check the arguments of a max pooling and return its sizes."""
    if len(x_shape) != 4:
        raise ValueError(f"{func}: x must have 4 axes (N, C, H, W); got shape {tuple(x_shape)}")
    height = _kernel_int(func, "pool_param['pool_height']", param(func, "pool_param", pool_param, "pool_height"), 1)
    width = _kernel_int(func, "pool_param['pool_width']", param(func, "pool_param", pool_param, "pool_width"), 1)
    stride = int_pair(func, "pool_param['stride']", param(func, "pool_param", pool_param, "stride"), 1)
    n, c, h, w = x_shape
    if height > h or width > w:
        raise ValueError(f"{func}: the pooling window must fit into the image {h}x{w}; got {height}x{width}")
    out = (n, c, output_size(h, height, stride[0]), output_size(w, width, stride[1]))
    return PoolShape((n, c, h, w), out, (height, width), stride)


def _check_size(func: str, out: tuple[int, ...]) -> None:
    if math.prod(out) >= LARGEST_SIZE:
        raise ValueError(f"{func}: the output must have fewer than 2**60 values, what memory can address; got {out}")


def check_labels(func: str, x: Array, y: Array) -> None:
    """Check class scores x (N, C) and labels y (N,); values are looked at on the CPU only."""
    check_ndim(func, "x", x, 2, "(N, C)")
    if x.shape[1] < 1:
        raise ValueError(f"{func}: x must have at least one class; got shape {tuple(x.shape)}")
    if y.dtype.kind not in "iu":
        raise TypeError(f"{func}: y must be integer class labels; got dtype {y.dtype}")
    check_shape(func, "y", y, (x.shape[0],), f"to match x {tuple(x.shape)}")
    if isinstance(y, np.ndarray) and y.size:
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= x.shape[1]:
            bad = low if low < 0 else high
            raise ValueError(f"{func}: y must hold labels in [0, {x.shape[1]}); got the label {bad}")
