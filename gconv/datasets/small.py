"""Data sets that need no download: scikit-learn's handwritten digits, and synthetic classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv._checks import integer, positive_int, real_number
from gconv._typing import Array

__all__ = ["get_digits_data", "make_synthetic_data"]


def get_digits_data(
    num_validation: int = 297,
    num_test: int = 300,
    subtract_mean: bool = True,
    dtype: Any = np.float32,
    seed: int = 0,
) -> dict[str, Array]:
    """Load the 1,797 handwritten digits that scikit-learn bundles, 8x8 pixels in [0, 1].

    Parameters
    ----------
    num_validation, num_test : int
        How many samples to set aside; the rest is for training.
    subtract_mean : bool
        Subtract the mean training image from all.
    dtype : float32 or float64
    seed : int
        Of the shuffle before the split, which the global random state has no part in.

    Returns
    -------
    dict
        X_train (1200, 1, 8, 8), y_train (1200,), X_val, y_val, X_test, y_test.

    Raises
    ------
    ModuleNotFoundError
        Without scikit-learn; the message says what to type.
    ValueError
        If fewer than one sample would be left for training.

    References
    ----------
    Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "get_digits_data: the digits come with scikit-learn, which is not installed: pip install 'gconv[demo]'"
        ) from error
    digits = load_digits()
    images, labels = digits.images[:, None] / 16, digits.target.astype(np.int64)
    held_out = integer("get_digits_data", "num_validation", num_validation, 0)
    held_out += integer("get_digits_data", "num_test", num_test, 0)
    if held_out >= len(images):
        raise ValueError(f"get_digits_data: num_validation + num_test must be below {len(images)}; got {held_out}")
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order].astype(dtype), labels[order]
    train, val = len(images) - held_out, len(images) - num_test
    if subtract_mean:
        images -= images[:train].mean(axis=0)
    return {
        "X_train": images[:train],
        "y_train": labels[:train],
        "X_val": images[train:val],
        "y_val": labels[train:val],
        "X_test": images[val:],
        "y_test": labels[val:],
    }


def make_synthetic_data(
    num_train: int = 200,
    num_val: int = 50,
    num_test: int = 50,
    input_dim: tuple[int, ...] = (3, 8, 8),
    num_classes: int = 4,
    noise: float = 0.5,
    dtype: Any = np.float32,
    seed: int = 0,
) -> dict[str, Array]:
    """Make a data set that can be learnt: one random prototype a class, plus normal noise.

    Parameters
    ----------
    num_train, num_val, num_test : int
    input_dim : tuple of int
        Shape of one sample.
    num_classes : int
    noise : float
        Standard deviation of the noise; the prototypes' is 1.
    dtype : float32 or float64
    seed : int

    Returns
    -------
    dict
        ``X_train`` ``(num_train, *input_dim)``, ``y_train`` (num_train,), X_val, y_val, X_test, y_test.

    Examples
    --------
    >>> data = make_synthetic_data(num_train=10)
    >>> data["X_train"].shape, data["y_train"].shape
    ((10, 3, 8, 8), (10,))
    """
    func = "make_synthetic_data"
    rng = np.random.default_rng(seed)
    prototypes = rng.standard_normal((positive_int(func, "num_classes", num_classes), *input_dim))
    spread = real_number(func, "noise", noise, 0)
    data = {}
    for part, count in (("train", num_train), ("val", num_val), ("test", num_test)):
        labels = rng.integers(num_classes, size=integer(func, f"num_{part}", count, 0))
        samples = prototypes[labels] + spread * rng.standard_normal((count, *input_dim))
        data[f"X_{part}"], data[f"y_{part}"] = samples.astype(dtype), labels
    return data
