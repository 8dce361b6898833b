"""Losses on class scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv._arguments import backend_of
from gconv._checks import check_labels, check_scores, check_shape, common_dtype, integer, real_number
from gconv._memory import names_memory_errors
from gconv._typing import Array
from gconv.backends import Backend, array_kind

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
def softmax_loss(
    x: Array,
    y: Array,
    label_smoothing: float = 0.0,
    ignore_label: int | None = None,
    class_weights: Any = None,
) -> tuple[Array, Array]:
    """Compute the cross entropy, mean over samples of log(sum_k exp(x_k)) - x_y, and choices of what to aim at.

    With q the probabilities that a sample ought to have (1 for its label, or given), s the smoothing and w the
    weights, a sample's loss is sum_c w_c ((1 - s) q_c + s / C) (log(sum_k exp(x_k)) - x_c). Losses are summed, and
    divided by the sum of w_y over the samples that are not ignored; with probabilities, by N.

    Parameters
    ----------
    x : array, shape (N, C)
        Class scores.
    y : integer array, shape (N,), or floating array, shape (N, C)
        Labels, 0 <= y[i] < C, or the probabilities of the classes, which are not checked.
    label_smoothing : float
        s, the share of each sample's probability that all classes get in equal parts, in [0, 1].
    ignore_label : int, optional
        Samples with this label, of any value, have no part in loss and gradient; labels only.
    class_weights : array or sequence of numbers, shape (C,), optional
        w, finite and not negative (looked at on the CPU only); 1 for each class without.

    Returns
    -------
    loss : scalar of x's dtype
        0 for N = 0, and where the sum that is divided by is 0 because all samples are ignored or weigh 0.
    dx : array, shape (N, C)

    Raises
    ------
    ValueError
        If the shapes do not match, C is 0, a label lies outside [0, C) and is not ignored (looked at on the CPU only),
        a number is out of range, or ``ignore_label`` is given with probabilities.
    TypeError
        If the labels are no integers, ``x`` is not floating, or a number is of another type.

    Notes
    -----
    The definitions of PyTorch's ``cross_entropy`` with its mean reduction, which is NaN where it divides by 0. A NaN
    score reaches the loss whatever its sample weighs; one of an ignored sample does not, and its gradient is 0 (NaN in
    PyTorch). A score of -inf rules its class out: it adds nothing to the loss where that probability ought to be 0.

    References
    ----------
    Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016 (label smoothing).

    Examples
    --------
    >>> loss, dx = softmax_loss(np.zeros((4, 10)), np.array([0, 1, 2, 3]))
    >>> bool(np.isclose(loss, np.log(10))), dx.shape
    (True, (4, 10))
    >>> loss, dx = softmax_loss(np.array([[2.0, 0.0], [5.0, 1.0]]), np.array([0, 255]), ignore_label=255)
    >>> round(float(loss), 4), dx[1].tolist()
    (0.1269, [0.0, 0.0])
    """
    func = "softmax_loss"
    smoothing = real_number(func, "label_smoothing", label_smoothing, 0, 1)
    if smoothing == 0 and ignore_label is None and class_weights is None and getattr(y, "ndim", 1) == 1:
        backend, x = _checked(func, x, y)
        return backend.softmax_loss(x, y) if len(x) else (x.dtype.type(0), x.copy())
    given = {} if array_kind(class_weights) is None else {"class_weights": class_weights}
    backend = backend_of(func, x=x, y=y, **given)
    x = backend.asarray(x, common_dtype(func, x=x))
    check_scores(func, x)
    ignored = check_ignore_label(func, ignore_label)
    if y.dtype.kind == "f" and y.ndim == 2:
        common_dtype(func, y=y)
        check_shape(func, "y", y, x.shape, "of x, for probabilities")
        if ignored is not None:
            raise ValueError(f"{func}: ignore_label must be None, where y holds probabilities; got {ignored}")
        y = backend.asarray(y, x.dtype)
    else:
        check_labels(func, x, y, ignored)
    weights = None
    if class_weights is not None:
        weights = backend.asarray(check_class_weights(func, class_weights, x.shape[1], x.dtype))
    return backend.cross_entropy(x, y, smoothing, ignored, weights) if len(x) else (x.dtype.type(0), x.copy())


def check_ignore_label(func: str, value: Any) -> int | None:
    """Return ``value`` as an int, of any sign, or None."""
    return None if value is None else integer(func, "ignore_label", value)


def check_class_weights(func: str, values: Any, classes: int, dtype: np.dtype[Any]) -> Array:
    """Return weights (C,) as an array of ``dtype``; numbers on the CPU must be finite and not negative in it."""
    weights = values
    if array_kind(values) is None:
        try:
            weights = np.asarray(values)
        except ValueError as error:  # rows of different lengths
            raise ValueError(
                f"{func}: class_weights must have shape ({classes},) of one number a class; got {values!r:.80}"
            ) from error
    if weights.dtype.kind not in "fiu":
        raise TypeError(f"{func}: class_weights must be numbers; got dtype {weights.dtype}")
    check_shape(func, "class_weights", weights, (classes,), "of one number a class")
    with np.errstate(all="ignore"):
        cast = weights.astype(dtype, copy=False)
    if isinstance(cast, np.ndarray) and not (np.isfinite(cast) & (cast >= 0)).all():
        raise ValueError(f"{func}: class_weights must be finite and not negative as {dtype}; got {weights.tolist()}")
    return cast


def _checked(func: str, x: Array, y: Array) -> tuple[Backend, Array]:
    backend = backend_of(func, x=x, y=y)
    dtype = common_dtype(func, x=x)
    check_labels(func, x, y)
    return backend, backend.asarray(x, dtype)
