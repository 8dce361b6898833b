"""Reading CIFAR-10's batch files, which are pickles, without running what a pickle may hold."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from gconv._typing import Array

__all__ = ["read_batch"]

PIXELS = 3 * 32 * 32


class BatchFileError(ValueError):
    """The file is no batch of CIFAR-10, or is damaged; the message names it."""


def _reconstruct(subtype: Any, shape: Any, dtype: Any) -> Array:
    if subtype is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("an array must start as an empty numpy.ndarray")
    return np.empty(0, np.uint8)


def _dtype(name: Any, align: Any = False, copy: Any = False) -> np.dtype[Any]:
    # The files say align=0; NumPy from 2.4 on warns unless it is a boolean.
    if name not in ("u1", "|u1", b"u1"):
        raise pickle.UnpicklingError(f"arrays must be of bytes; got the dtype {name!r}")
    return np.dtype("u1", align=bool(align), copy=bool(copy))


# Each name that the files hold, in NumPy's spelling before 2.0 and since.
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
}


class _BatchUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"the name {module}.{name} is not allowed in it")
        return ALLOWED[module, name]


def read_batch(path: str | os.PathLike[str]) -> tuple[Array, Array]:
    """Read one batch file.

    Parameters
    ----------
    path : path

    Returns
    -------
    images : uint8 array, shape (N, 3, 32, 32)
    labels : int64 array, shape (N,)

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no batch of CIFAR-10, is damaged, or holds anything but bytes, lists and strings.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load_CIFAR_batch: filename must be a batch file of CIFAR-10; there is none at {path}")
    with path.open("rb") as file:
        try:
            batch = _BatchUnpickler(file, encoding="latin1").load()
        # A damaged pickle raises nearly anything: the machine it drives meets wrong types and lengths.
        except Exception as error:
            raise BatchFileError(f"load_CIFAR_batch: {path} is damaged or no batch file: {error}") from error
    if not isinstance(batch, dict):
        raise BatchFileError(f"load_CIFAR_batch: {path} must hold a dictionary; got {type(batch).__name__}")
    data, labels = batch.get("data"), batch.get("labels")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS:
        raise BatchFileError(f"load_CIFAR_batch: {path} must hold 'data' of shape (N, {PIXELS})")
    whole = isinstance(labels, list) and len(labels) == len(data)
    if not whole or not all(type(label) is int and 0 <= label < 10 for label in labels or ()):
        raise BatchFileError(f"load_CIFAR_batch: {path} must hold 'labels', {len(data)} integers in [0, 10)")
    return data.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)
