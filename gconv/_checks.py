"""Argument checks, the same for every backend; those of sizes are in geometry.py.

Every message reads ``function: argument must <rule>; got <value>``. Shapes and dtypes are read, never
the values of an array that may live on a device.
"""

from __future__ import annotations

import math
from collections.abc import KeysView, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from gconv._typing import Array

__all__ = [
    "check_labels",
    "check_mapping",
    "check_ndim",
    "check_number",
    "check_scores",
    "check_shape",
    "common_dtype",
    "hints_of",
    "integer",
    "known_keys",
    "one_of",
    "param",
    "positive_int",
    "real_number",
    "refuse_unknown",
]

FLOATS = (np.float32, np.float64)


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
    check_mapping(func, name, mapping)
    if key not in mapping:
        raise ValueError(f"{func}: {name} must have the key {key!r}; got the keys {sorted(map(str, mapping))}")
    return mapping[key]


def known_keys(
    func: str, name: str, mapping: Any, known: KeysView[str], elsewhere: Mapping[str, str] | None = None
) -> None:
    """Raise ValueError if a dictionary of parameters has keys that mean nothing, as misspelt ones do.

    ``elsewhere`` says of some where they work.
    """
    if type(mapping) is dict and mapping.keys() <= known:
        return  # most are right, and this is all that it costs them
    check_mapping(func, name, mapping)
    if not mapping.keys() <= known:
        unknown = sorted((key for key in mapping if key not in known), key=repr)
        hints = hints_of({repr(key): key for key in unknown}, elsewhere)
        got = ", ".join(map(repr, unknown))
        raise ValueError(f"{func}: {name} must have keys among {', '.join(known)}; got {got}{hints}")


def hints_of(named: Mapping[str, Any], elsewhere: Mapping[str, str] | None) -> str:
    """Return what ``elsewhere`` says of the given names, under what an error calls them; its last sentences."""
    return "".join(f". {label} is {elsewhere[key]}" for label, key in named.items() if elsewhere and key in elsewhere)


def check_mapping(func: str, name: str, mapping: Any) -> None:
    """Raise TypeError unless ``mapping`` is a dictionary, or like one."""
    if type(mapping) is not dict and not isinstance(mapping, Mapping):
        raise TypeError(f"{func}: {name} must be a dictionary; got {type(mapping).__name__}")


def integer(func: str, name: str, value: Any, minimum: float = -math.inf) -> int:
    """Return ``value`` as an int of at least ``minimum``."""
    if type(value) is int and value >= minimum:
        return value
    rule = "a positive integer" if minimum == 1 else "an integer"
    if math.isfinite(minimum) and minimum != 1:
        rule += f" of at least {minimum}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{func}: {name} must be {rule}; got {value!r}")
    if not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{func}: {name} must be {rule}; got {value!r}")
    return int(value)


def positive_int(func: str, name: str, value: Any) -> int:
    """Return ``value`` as an int of at least 1."""
    return integer(func, name, value, 1)


def real_number(func: str, name: str, value: Any, low: float = -np.inf, high: float = np.inf) -> float:
    """Return ``value`` as a finite float in [low, high]."""
    if type(value) is float and math.isfinite(value) and low <= value <= high:
        return value
    rule = f"be a number in [{low:g}, {high:g}]"
    if isinstance(value, (bool, np.bool_, str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{func}: {name} must {rule}; got {value!r}")
    if hasattr(value, "dtype") and (value.shape != () or value.dtype.kind not in "fiu"):
        raise TypeError(f"{func}: {name} must {rule}; got an array of shape {tuple(value.shape)}, dtype {value.dtype}")
    number = float(value)
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{func}: {name} must {rule}; got {value!r}")
    return number


def check_number(func: str, call: str, value: Any, role: str = "") -> None:
    """Raise an error unless ``value``, which ``call`` returned, is one real number; ``role`` ends the rule."""
    shape = getattr(value, "shape", ())
    if shape != ():
        raise ValueError(f"{func}: {call} must return one number{role}; got shape {tuple(shape)}")
    kind = getattr(getattr(value, "dtype", None), "kind", "f")
    if isinstance(value, (bool, complex)) or kind not in "fiu" or not hasattr(value, "__float__"):
        raise TypeError(f"{func}: {call} must return a real number{role}; got {type(value).__name__}")


def one_of(
    func: str, name: str, value: Any, allowed: tuple[Any, ...], elsewhere: Mapping[str, str] | None = None
) -> Any:
    """Return ``value`` if it is one of ``allowed``; ``elsewhere`` says of some others where they work."""
    if not any(value is item or (isinstance(value, str) and value == item) for item in allowed):
        hints = hints_of({repr(value): value}, elsewhere) if isinstance(value, str) else ""
        raise ValueError(f"{func}: {name} must be one of {', '.join(map(repr, allowed))}; got {value!r}{hints}")
    return value


def refuse_unknown(func: str, given: Mapping[str, Any], elsewhere: Mapping[str, str]) -> None:
    """Raise ValueError if keywords were given that a function has not; ``elsewhere`` says of some where they work."""
    if given:
        hints = hints_of({f"{name}=": name for name in sorted(given)}, elsewhere)
        raise ValueError(f"{func}: keywords must be the documented ones; got {', '.join(sorted(given))}{hints}")


def check_scores(func: str, x: Array) -> None:
    """Check the shape of class scores x (N, C)."""
    check_ndim(func, "x", x, 2, "(N, C)")
    if x.shape[1] < 1:
        raise ValueError(f"{func}: x must have at least one class; got shape {tuple(x.shape)}")


def check_labels(func: str, x: Array, y: Array, ignored: int | None = None) -> None:
    """Check class scores x (N, C) and labels y (N,), in [0, C) or ``ignored``; values are looked at on the CPU only."""
    check_scores(func, x)
    if y.dtype.kind not in "iu":
        raise TypeError(f"{func}: y must be integer class labels; got dtype {y.dtype}")
    check_shape(func, "y", y, (x.shape[0],), f"to match x {tuple(x.shape)}")
    if ignored is not None and isinstance(y, np.ndarray):
        y = y[y != ignored]
    if isinstance(y, np.ndarray) and y.size:
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= x.shape[1]:
            bad = low if low < 0 else high
            raise ValueError(f"{func}: y must hold labels in [0, {x.shape[1]}); got the label {bad}")
