"""What a signal that asks the process to end does to a training: the same as Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["Terminated", "end_like_ctrl_c", "exit_code", "uninterrupted"]


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as batch systems and ``kill`` send it."""


def end_like_ctrl_c() -> None:
    """Let SIGTERM raise Terminated in the main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait: what is written here is soon done, and is not to be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(error: BaseException) -> int:
    """Return 128 and the signal's number, as shells do."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
