"""What the dictionaries of the normalising layers may hold: courses pass one dictionary to any of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gconv._checks import known_keys, real_number

__all__ = ["norm_epsilon"]

_KEYS = dict.fromkeys(("mode", "eps", "momentum", "running_mean", "running_var")).keys()


def norm_epsilon(func: str, name: str, options: Mapping[str, Any], dtype: np.dtype[Any]) -> float:
    """Return ``options["eps"]``, 1e-5 where there is none, after the checks; ``func`` and ``name`` are named in errors.

    Raises
    ------
    ValueError
        If it is not above 0 and finite once it is rounded to ``dtype``, that of the computation, or the dictionary has
        a key that is none of a normalising layer.
    TypeError
        If it is no number, or ``options`` is no dictionary.

    Examples
    --------
    >>> norm_epsilon("demo", "ln_param", {"eps": 0.001}, np.dtype("float32"))
    0.001
    """
    known_keys(func, name, options, _KEYS)
    eps = real_number(func, f"{name}['eps']", options.get("eps", 1e-5), 0)
    if eps == 0:
        raise ValueError(f"{func}: {name}['eps'] must be above 0, or a variance of 0 would divide 0 by 0; got {eps}")
    # Of values in between, which nearly all are, the rounding need not be paid.
    if not 1e-37 < eps < 1e38:
        with np.errstate(all="ignore"):
            rounded = dtype.type(eps)
        if not 0 < rounded < np.inf:
            raise ValueError(f"{func}: {name}['eps'] must be above 0 and finite as {dtype}; got {eps}, {rounded} there")
    return eps
