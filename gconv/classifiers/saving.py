"""A model's parameters in a file, under the names of the course's 2025 assignments."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from gconv._typing import Array
from gconv.backends import get_backend
from gconv.files import load_checkpoint, save_checkpoint

__all__ = ["SavedParameters"]

# How a file of NumPy begins, an archive of them, and a pickle of protocol 2 or later.
NUMPY_FILE, ARCHIVE, PICKLE = b"\x93NUMPY", b"PK\x03\x04", b"\x80"

# What the description says; a Solver's checkpoint has no such word in it.
KIND = "parameters"


class SavedParameters:
    """``save`` and ``load`` for models that have ``params``, and perhaps ``buffers``, dictionaries of arrays."""

    params: dict[str, Array]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters, and running averages if there are any, to a file; say so.

        The format is safetensors with a checksum, whatever the path ends in: a notebook may go on calling its file
        ``best_model.npy``. It is written whole or not at all.

        Parameters
        ----------
        path : path
            Missing folders are made.

        Raises
        ------
        OSError
            If it can't be written; what stood at ``path`` is then still there.
        """
        arrays = {f"params.{name}": get_backend(w).to_numpy(w) for name, w in self.params.items()}
        buffers: dict[str, Array] = getattr(self, "buffers", {})
        arrays |= {f"buffers.{name}": get_backend(array).to_numpy(array) for name, array in buffers.items()}
        save_checkpoint(path, arrays, {"kind": KIND})
        print(f"{os.fspath(path)} saved.")

    def load(self, path: str | os.PathLike[str]) -> bool:
        """Take over what ``save`` of a model of the same shapes wrote; say so.

        Parameters
        ----------
        path : path

        Returns
        -------
        bool
            False, as in the course, where there is no such file; the model has not been changed then.

        Raises
        ------
        ValueError
            If it is a pickle or a file of NumPy, which may hold one; if it is a Solver's checkpoint, or of a model of
            other names, shapes or dtypes; if it has a part of the running averages only, or such as no training leaves.
        CheckpointError
            If it is damaged, or no file of gconv. The model has not been changed after any error.
        """
        func, path = f"{type(self).__name__}.load", Path(path)
        if not path.is_file():
            print(f"{path} not available.")
            return False
        with path.open("rb") as file:
            start = file.read(9)
        # A safetensors file begins with a length of 8 bytes, of which the first may be a pickle's, and a bracket.
        if start.startswith((NUMPY_FILE, ARCHIVE)) or (start.startswith(PICKLE) and start[8:] != b"{"):
            raise ValueError(
                f"{func}: path must be a file that save wrote; got {path}, a pickle or a file of NumPy, which can run "
                "code when it is read. If it is your own: set model.params from "
                "np.load(path, allow_pickle=True).item() once, and save the model anew"
            )
        arrays, description = load_checkpoint(path)
        if description.get("kind") != KIND:
            # All that a Solver writes has its options in it.
            what = (
                "a Solver's checkpoint. Go on from it with Solver.resume(path), which sets the model's parameters"
                if "options" in description
                else f"a file of the kind {description.get('kind')!r:.80}"
            )
            raise ValueError(f"{func}: path must be a file that save wrote; got {path}, {what}")
        buffers = {name[8:]: array for name, array in arrays.items() if name.startswith("buffers.")}
        params = {name[7:]: array for name, array in arrays.items() if name.startswith("params.")}
        others = sorted(set(arrays) - {f"params.{name}" for name in params} - {f"buffers.{name}" for name in buffers})
        if others:
            raise ValueError(
                f"{func}: path must hold parameters and running averages only; got {path} with "
                f"{', '.join(others)!s:.80}"
            )
        expected = {name: (tuple(w.shape), str(w.dtype)) for name, w in self.params.items()}
        found = {name: (array.shape, str(array.dtype)) for name, array in params.items()}
        if found != expected:
            raise ValueError(f"{func}: path must be of a model with {expected}; got {path} with {found}")
        known: dict[str, Array] = getattr(self, "buffer_values", dict)()
        like = {name: (array.shape, str(array.dtype)) for name, array in known.items()}
        # None before any training, else all of them.
        given = {name: (array.shape, str(array.dtype)) for name, array in buffers.items()}
        if given not in ({}, like):
            raise ValueError(f"{func}: path must have running averages as {like}, or none; got {path} with {given}")
        for name, array in buffers.items():
            if not np.isfinite(array).all() or (name.startswith("running_var") and (array < 0).any()):
                raise ValueError(
                    f"{func}: path must have finite running averages, variances not negative; got {path} with {name} = "
                    f"{array.tolist()!s:.80}"
                )
        # All are moved before the first is taken over: there may be no memory for one of them.
        backend = get_backend(*self.params.values())
        moved = {name: backend.asarray(params[name]) for name in expected}
        averages = {name: backend.asarray(array) for name, array in buffers.items()}
        self.params.update(moved)
        if known:
            self.buffers = averages
        print(f"{path} loaded.")
        return True
