"""Whether this thread captures a CUDA graph: then nothing may be loaded, nor waited for."""

from __future__ import annotations

import threading

__all__ = ["capture"]


class Capture(threading.local):
    """A thread's own flag."""

    running = False


capture = Capture()
