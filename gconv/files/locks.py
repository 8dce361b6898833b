"""One writer at a time: lock files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked"]


@contextmanager
def locked(path: str | os.PathLike[str], rule: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock file ``path``; the system lets go of it when the process ends, however it ends.

    Where locks are not to be had (a folder that can't be written, some network file systems) a RuntimeWarning says so
    and nothing is held. The file stays.

    Raises
    ------
    BlockingIOError
        If another process, or another thread, holds it, and not ``wait``; the message begins with ``rule``.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=-1 if wait else 0)
    held = True
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise BlockingIOError(f"{rule}; another process holds {path}") from error
    except (OSError, NotImplementedError) as error:
        text = f"nothing keeps a second process away, {path} can't be locked: {error}"
        warnings.warn(text, RuntimeWarning, stacklevel=3)
        held = False
    try:
        yield
    finally:
        if held:
            lock.release()
