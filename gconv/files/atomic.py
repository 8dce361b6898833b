"""Writing files so that a reader finds the old one or the new one, never a part."""

from __future__ import annotations

import glob
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["remove_unfinished", "warn_if_unwritten", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to a temporary file beside ``path``, flush it to the disk, and rename it.

    Missing folders are made. What stood at ``path`` stays whole until the rename.

    Raises
    ------
    OSError
        If the disk is full or the folder can't be written; ``path`` is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner reads; this one is to be like any other.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the rename itself reaches the disk with the folder
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_unfinished(folder: str | os.PathLike[str], stem: str = "") -> None:
    """Delete what killed processes left in ``folder`` of files whose names begin with ``stem``."""
    for path in Path(folder).glob(f".{glob.escape(stem)}*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def warn_if_unwritten(what: str) -> Iterator[None]:
    """Turn an OSError inside this context into a RuntimeWarning: a training is worth more than one file of it."""
    try:
        yield
    except OSError as error:
        warnings.warn(f"{what} could not be written, and the training goes on: {error}", RuntimeWarning, stacklevel=3)
