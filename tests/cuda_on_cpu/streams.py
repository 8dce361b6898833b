"""CuPy's streams and graphs on host memory: what is queued while a stream captures is recorded, not run."""

from collections.abc import Callable
from typing import Any

import cupy

_recording: list[list[Callable[[], Any]]] = []
_current: list["Stream"] = []


def capturing() -> bool:
    return bool(_recording)


def enqueue(work: Callable[[], Any]) -> None:
    """Run ``work``, or record it."""
    if _recording:
        _recording[-1].append(work)
    else:
        work()


def refuse_capture(what: str) -> None:
    """Raise as CUDA does for what waits for the device, and as CuPy does for cuBLAS."""
    if _recording:
        raise RuntimeError(f"{what} is not supported during stream capture")


class Graph:
    """What a stream has recorded."""

    def __init__(self, work: list[Callable[[], Any]]) -> None:
        self._work = work

    def launch(self, stream: "Stream | None" = None) -> None:
        """Run it."""
        for work in self._work:
            work()


class Stream:
    """cupy.cuda.Stream."""

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.null = null

    def __enter__(self) -> "Stream":
        _current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.pop()

    def begin_capture(self, mode: Any = None) -> None:
        """Record from now on."""
        if self.null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        _recording.append([])

    def end_capture(self) -> Graph:
        """Return what was recorded."""
        return Graph(_recording.pop())

    def synchronize(self) -> None:
        """Wait for nothing: work is done when it is queued."""
        refuse_capture("synchronize")


def install(using_allocator: Any) -> None:
    cupy.cuda.Stream = Stream
    cupy.cuda.get_current_stream = lambda: _current[-1] if _current else Stream(null=True)
    cupy.cuda.using_allocator = using_allocator
