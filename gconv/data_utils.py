"""Data sets as the course's notebooks load them: dictionaries X_train, y_train, X_val, y_val, X_test, y_test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from gconv._checks import integer, positive_int
from gconv._typing import Array
from gconv.datasets.batch_file import read_batch
from gconv.datasets.cifar10_files import BATCHES, TEST_BATCH, find_cifar10
from gconv.datasets.small import get_digits_data, make_synthetic_data

__all__ = [
    "CIFAR10_CLASSES",
    "get_CIFAR10_data",
    "get_digits_data",
    "load_CIFAR10",
    "load_CIFAR_batch",
    "make_synthetic_data",
]

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load_CIFAR_batch(filename: str | os.PathLike[str]) -> tuple[Array, Array]:
    """Load one batch file of CIFAR-10.

    Parameters
    ----------
    filename : path

    Returns
    -------
    X : float32 array, shape (N, 32, 32, 3)
        Pixels in [0, 255].
    Y : int64 array, shape (N,)
        Labels in [0, 10).

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is no batch file.
    """
    images, labels = read_batch(filename)
    return images.transpose(0, 2, 3, 1).astype(np.float32, order="C"), labels


def load_CIFAR10(ROOT: str | os.PathLike[str]) -> tuple[Array, Array, Array, Array]:
    """Load all of CIFAR-10 from its folder.

    Parameters
    ----------
    ROOT : path
        The folder cifar-10-batches-py, or the one that holds it.

    Returns
    -------
    Xtr : float32 array, shape (50000, 32, 32, 3)
        Pixels in [0, 255]. float32, not the course's float64: 0.6 GB instead of 1.2.
    Ytr : int64 array, shape (50000,)
    Xte : float32 array, shape (10000, 32, 32, 3)
    Yte : int64 array, shape (10000,)

    Raises
    ------
    FileNotFoundError, ValueError
        If files are missing or damaged.
    """
    folder = find_cifar10(ROOT)
    images, labels = _read_all(folder, BATCHES)
    test_images, test_labels = read_batch(folder / TEST_BATCH)

    def channels_last(batches: list[Array]) -> Array:
        whole = np.empty((sum(map(len, batches)), 32, 32, 3), np.float32)
        start = 0
        for batch in batches:  # file by file, so that no second copy of everything is made
            whole[start : start + len(batch)] = batch.transpose(0, 2, 3, 1)
            start += len(batch)
        return whole

    return channels_last(images), labels, channels_last([test_images]), test_labels


def get_CIFAR10_data(
    num_training: int = 49000,
    num_validation: int = 1000,
    num_test: int = 1000,
    subtract_mean: bool = True,
    cifar10_dir: str | os.PathLike[str] | None = None,
    dtype: Any = np.float32,
) -> dict[str, Array]:
    """Load CIFAR-10 split for training, validation and testing, channels first.

    Validation takes the samples that follow the training ones. Looked for in ``cifar10_dir``, else in
    GCONV_DATA_DIR, else in the user's cache, else downloaded there.

    Parameters
    ----------
    num_training, num_validation : int
        At most 50000 together.
    num_test : int
        At most 10000.
    subtract_mean : bool
        Subtract the mean training image from all.
    cifar10_dir : path, optional
        The folder cifar-10-batches-py, or the one that holds it.
    dtype : dtype
        float32 or float64; uint8 too where ``subtract_mean`` is False.

    Returns
    -------
    dict
        X_train (49000, 3, 32, 32), y_train (49000,), X_val, y_val, X_test, y_test.

    Raises
    ------
    FileNotFoundError
        If the data are nowhere to be had; the message says what to type.
    ValueError
        If more samples are asked for than there are, or a file is damaged.
    """
    func = "get_CIFAR10_data"
    counts = {
        "num_training": positive_int(func, "num_training", num_training),
        "num_validation": integer(func, "num_validation", num_validation, 0),
        "num_test": integer(func, "num_test", num_test, 0),
    }
    dtype = np.dtype(dtype)
    allowed = (np.float32, np.float64) if subtract_mean else (np.float32, np.float64, np.uint8)
    if dtype not in allowed:
        names = ", ".join(np.dtype(t).name for t in allowed)
        raise TypeError(f"{func}: dtype must be one of {names} with subtract_mean={subtract_mean}; got {dtype}")
    folder = find_cifar10(cifar10_dir)
    images, labels = _read_all(folder, BATCHES)
    test_images, test_labels = _read_all(folder, (TEST_BATCH,))
    train, val, test = counts.values()
    if train + val > len(labels) or test > len(test_labels):
        raise ValueError(
            f"{func}: num_training + num_validation must be at most {len(labels)} and num_test at most "
            f"{len(test_labels)}, what {folder} holds; got {train} + {val} and {test}"
        )
    data = {
        "X_train": _rows(images, 0, train, dtype),
        "y_train": labels[:train].copy(),
        "X_val": _rows(images, train, train + val, dtype),
        "y_val": labels[train : train + val].copy(),
        "X_test": _rows(test_images, 0, test, dtype),
        "y_test": test_labels[:test].copy(),
    }
    if subtract_mean:
        # Sums of bytes in integers: exact, where a float32 sum over 49,000 images is not.
        total = np.zeros((3, 32, 32), np.int64)
        for start in range(0, train, 1000):
            total += _rows(images, start, min(start + 1000, train), np.dtype(np.uint8)).sum(axis=0, dtype=np.int64)
        mean = (total / train).astype(dtype)
        for part in ("X_train", "X_val", "X_test"):
            data[part] -= mean
    return data


def _read_all(folder: Path, names: tuple[str, ...]) -> tuple[list[Array], Array]:
    batches = [read_batch(folder / name) for name in names]
    return [images for images, _ in batches], np.concatenate([labels for _, labels in batches])


def _rows(batches: list[Array], first: int, last: int, dtype: np.dtype[Any]) -> Array:
    """Return images [first, last) of the files taken as one, in one new array."""
    out = np.empty((last - first, 3, 32, 32), dtype)
    position = 0
    for batch in batches:
        low, high = max(first, position), min(last, position + len(batch))
        if low < high:
            out[low - first : high - first] = batch[low - position : high - position]
        position += len(batch)
    return out
