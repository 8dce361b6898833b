"""Work on the device captured as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy

from gconv.backends.capture import capture

__all__ = ["GraphRecorder"]


class GraphRecorder:
    """Captures graphs whose temporary arrays live in a memory pool that nobody else allocates from.

    A replay writes to the temporary arrays' addresses again: in CuPy's common pool these would by then belong to
    other arrays. The graphs are valid as long as the recorder lives.
    """

    def __init__(self) -> None:
        self._pool = cupy.cuda.MemoryPool()
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def record(self, work: Callable[[], None]) -> Any:
        """Return what ``work`` queues as a graph with a method ``launch``; nothing is computed.

        Raises
        ------
        Exception
            What ``work`` raises, as where it waits for the device or calls cuBLAS.
        """
        with cupy.cuda.using_allocator(self._pool.malloc), self._stream:
            self._stream.begin_capture()
            capture.running = True
            try:
                work()
            except BaseException:
                self._abandon()
                raise
            finally:
                capture.running = False
            return self._stream.end_capture()

    def _abandon(self) -> None:
        try:
            self._stream.end_capture()
        except cupy.cuda.runtime.CUDARuntimeError:
            # What work did invalidated the capture; the stream is usable again, and work's error says why.
            return
