"""What a signal that asks the process to end does to a training: the same as Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import NoReturn

__all__ = ["Terminated", "end_like_ctrl_c", "exit_code"]


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as batch systems and ``kill`` send it."""


def end_like_ctrl_c() -> None:
    """Let SIGTERM raise Terminated in the main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def exit_code(error: BaseException) -> int:
    """Return 128 and the signal's number, as shells do."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
