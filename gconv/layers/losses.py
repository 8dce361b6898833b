"""Losses on class scores."""

from __future__ import annotations

from gconv._arguments import backend_of
from gconv._checks import check_labels, common_dtype
from gconv._memory import names_memory_errors
from gconv._typing import Array
from gconv.backends import Backend

__all__ = ["softmax_loss", "svm_loss"]


@names_memory_errors
def svm_loss(x: Array, y: Array) -> tuple[Array, Array]:
    """Compute the multiclass hinge loss, mean over samples of sum over k != y of max(0, x_k - x_y + 1).

    Parameters
    ----------
    x : array, shape (N, C)
        Class scores.
    y : integer array, shape (N,)
        Labels, 0 <= y[i] < C.

    Returns
    -------
    loss : scalar of x's dtype
        0 for N = 0.
    dx : array, shape (N, C)

    Raises
    ------
    ValueError
        If the shapes do not match, C is 0, or a label lies outside [0, C) (looked at on the CPU only).
    TypeError
        If the labels are no integers, or ``x`` is not floating.

    References
    ----------
    Weston and Watkins, "Multi-class support vector machines", 1998.

    Examples
    --------
    >>> loss, dx = svm_loss(np.array([[3.0, 2.5, 0.0]]), np.array([0]))
    >>> float(loss), dx.tolist()
    (0.5, [[-1.0, 1.0, 0.0]])
    """
    backend, x = _checked("svm_loss", x, y)
    return backend.svm_loss(x, y) if len(x) else (x.dtype.type(0), x.copy())


@names_memory_errors
def softmax_loss(x: Array, y: Array) -> tuple[Array, Array]:
    """Compute the cross entropy, mean over samples of log(sum_k exp(x_k)) - x_y.

    Parameters
    ----------
    x : array, shape (N, C)
        Class scores.
    y : integer array, shape (N,)
        Labels, 0 <= y[i] < C.

    Returns
    -------
    loss : scalar of x's dtype
        0 for N = 0.
    dx : array, shape (N, C)

    Raises
    ------
    ValueError
        If the shapes do not match, C is 0, or a label lies outside [0, C) (looked at on the CPU only).
    TypeError
        If the labels are no integers, or ``x`` is not floating.

    Examples
    --------
    >>> loss, dx = softmax_loss(np.zeros((4, 10)), np.array([0, 1, 2, 3]))
    >>> bool(np.isclose(loss, np.log(10))), dx.shape
    (True, (4, 10))
    """
    backend, x = _checked("softmax_loss", x, y)
    return backend.softmax_loss(x, y) if len(x) else (x.dtype.type(0), x.copy())


def _checked(func: str, x: Array, y: Array) -> tuple[Backend, Array]:
    backend = backend_of(func, x=x, y=y)
    dtype = common_dtype(func, x=x)
    check_labels(func, x, y)
    return backend, backend.asarray(x, dtype)
