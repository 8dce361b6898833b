"""Numerical gradients by central differences, to check analytic ones with."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from gconv._arguments import backend_of
from gconv._checks import check_number, check_shape, common_dtype, positive_int, real_number
from gconv._typing import Array
from gconv.backends import array_kind

__all__ = ["eval_numerical_gradient", "eval_numerical_gradient_array", "grad_check_sparse", "rel_error"]


def rel_error(x: Array, y: Array) -> float:
    """Return the largest relative error, ``max |x - y| / max(1e-8, |x| + |y|)``; 0 for empty arrays.

    Parameters
    ----------
    x, y : array or number
        Of shapes that broadcast.

    Examples
    --------
    >>> round(rel_error(np.array([1.0, 2.0]), np.array([1.0, 2.1])), 4)
    0.0244
    """
    arrays = {name: value for name, value in (("x", x), ("y", y)) if array_kind(value)}
    xp = backend_of("rel_error", **arrays).xp if arrays else np
    error = xp.abs(x - y) / xp.maximum(1e-8, xp.abs(x) + xp.abs(y))
    return float(error.max()) if error.size else 0.0


def eval_numerical_gradient(f: Callable[[Array], Any], x: Array, verbose: bool = True, h: float = 1e-5) -> Array:
    """Compute the gradient of a scalar function by central differences, (f(x + h) - f(x - h)) / 2h.

    Parameters
    ----------
    f : callable
        Takes ``x`` and returns a number. It may also read ``x`` from outside: the very array is changed
        element by element, and restored.
    x : array, float64 for good results
        The point; must be writable.
    verbose : bool
        Print every component.
    h : float
        Half the distance of the two points. float32 needs about 1e-2; with less there is a warning.

    Returns
    -------
    grad : array, shape and dtype of ``x``

    Raises
    ------
    TypeError
        If ``x`` is not floating, or f returns no real number.
    ValueError
        If ``x`` is read-only, h not positive, or f returns an array with axes.
    """
    func = "eval_numerical_gradient"
    grad = _zeros_like(func, x, h)
    for index in np.ndindex(*x.shape):
        grad[index] = _difference(func, f, x, index, h)
        if verbose:
            print(index, float(grad[index]))
    return grad


def eval_numerical_gradient_array(f: Callable[[Array], Array], x: Array, df: Array, h: float = 1e-5) -> Array:
    """Compute the gradient of sum(f(x) * df), for a function with an array result, by central differences.

    Parameters
    ----------
    f : callable
        Takes ``x`` and returns an array. It may also read ``x`` from outside: the very array is changed
        element by element, and restored.
    x : array, float64 for good results
        The point; must be writable.
    df : array, shape of f(x)
        Upstream gradient.
    h : float
        Half the distance of the two points. float32 needs about 1e-2; with less there is a warning.

    Returns
    -------
    grad : array, shape and dtype of ``x``

    Raises
    ------
    TypeError
        If ``x`` is not floating.
    ValueError
        If ``x`` is read-only, h not positive, or ``df`` has another shape than f(x).

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0])
    >>> np.round(eval_numerical_gradient_array(lambda x: x * x, x, np.ones(3)), 6)
    array([2., 4., 6.])
    """
    func = "eval_numerical_gradient_array"
    grad = _zeros_like(func, x, h)
    for index in np.ndindex(*x.shape):
        high, low, distance = _both_sides(lambda x: _array_copy(f(x)), x, index, h)
        if array_kind(df):  # a number is multiplied with as it is
            check_shape(func, "df", df, high.shape, "of f(x)")
        grad[index] = float(((high - low) * df).sum()) / distance
    return grad


def grad_check_sparse(
    f: Callable[[Array], Any], x: Array, analytic_grad: Array, num_checks: int = 10, h: float = 1e-5
) -> float:
    """Compare an analytic gradient with the numerical one at random elements, and print each comparison.

    Parameters
    ----------
    f : callable
        Takes ``x`` and returns a number.
    x : array, float64 for good results
        The point; changed element by element, and restored.
    analytic_grad : array, shape of ``x``
    num_checks : int
        How many elements, drawn by Python's ``random``.
    h : float
        Half the distance of the two points. float32 needs about 1e-2; with less there is a warning.

    Returns
    -------
    float
        The largest relative error found.
    """
    func = "grad_check_sparse"
    _zeros_like(func, x, h)
    check_shape(func, "analytic_grad", analytic_grad, x.shape, "of x")
    worst = 0.0
    for _ in range(positive_int(func, "num_checks", num_checks) if x.size else 0):
        index = tuple(random.randrange(size) for size in x.shape)
        numerical, analytic = _difference(func, f, x, index, h), float(analytic_grad[index])
        # 1e-30 keeps two zeros, which agree, from being 0/0
        error = abs(numerical - analytic) / max(abs(numerical) + abs(analytic), 1e-30)
        worst = max(worst, error)
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {error:e}")
    return worst


def _zeros_like(func: str, x: Array, h: float) -> Array:
    backend = backend_of(func, x=x)
    dtype = common_dtype(func, x=x)
    if real_number(func, "h", h, 0) == 0:
        raise ValueError(f"{func}: h must be positive; got {h}")
    if isinstance(x, np.ndarray) and not x.flags.writeable:
        raise ValueError(f"{func}: x must be writable, its elements are changed and restored; got a read-only array")
    epsilon = float(np.finfo(dtype).eps)
    if dtype == np.float32 and h < 1e-3:
        warnings.warn(
            f"{func}: x is float32 and h is {h:g}: rounding alone makes an error of about {epsilon / h:.0%} of the "
            "function's value, more for a sum of many terms. Use float64 arrays, or h=1e-2",
            RuntimeWarning,
            stacklevel=3,
        )
    return backend.xp.zeros(x.shape, dtype)


def _both_sides(f: Callable[[Array], Any], x: Array, index: tuple[int, ...], h: float) -> tuple[Any, Any, float]:
    """Return f above, f below, and their distance as x's dtype rounds it; x is restored whatever f does."""
    old = float(x[index])
    try:
        x[index] = old + h
        above = float(x[index])
        high = f(x)
        x[index] = old - h
        below = float(x[index])
        low = f(x)
    finally:
        x[index] = old
    return high, low, above - below


def _difference(func: str, f: Callable[[Array], Any], x: Array, index: tuple[int, ...], h: float) -> float:
    """Return the difference quotient of a function that returns one number."""
    high, low, distance = _both_sides(f, x, index, h)
    for value in (high, low):
        check_number(func, "f(x)", value)
    return (float(high) - float(low)) / distance


def _array_copy(value: Any) -> Any:
    # f may return the same buffer, or x itself, at every call
    return value.copy() if array_kind(value) else np.asarray(value)
