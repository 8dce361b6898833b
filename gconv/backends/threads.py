"""How many CPU threads the kernels use."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["get_num_threads", "one_thread_after_fork", "set_num_threads", "short_waits"]


# For each core of the machine. More threads only wait for each other, and at some number there is no memory for them.
MOST_PER_CORE = 16


def _most_threads() -> int:
    return MOST_PER_CORE * (os.cpu_count() or 1)


def _default_num_threads() -> int:
    # OMP_NUM_THREADS may be a list, one entry a nesting level; ours is the first level.
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if text.isdigit() and int(text) > 0:
        return min(int(text), _most_threads())
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_num_threads = _default_num_threads()


def get_num_threads() -> int:
    """Return how many threads one kernel call uses: OMP_NUM_THREADS, else the cores of this process."""
    return _num_threads


def set_num_threads(num_threads: int) -> None:
    """Set how many threads one kernel call uses, for the whole process.

    NumPy's matrix products follow where threadpoolctl is installed; without it only gconv's kernels do.

    Parameters
    ----------
    num_threads : int
        At least 1, and at most 16 for each core of the machine.

    Raises
    ------
    TypeError, ValueError
        If ``num_threads`` is not an integer, or out of range.

    Warns
    -----
    RuntimeWarning
        In a process forked from one whose kernels had run on several threads: they can only run on one here.
    """
    global _num_threads
    if isinstance(num_threads, bool) or not hasattr(num_threads, "__index__"):
        raise TypeError(f"set_num_threads: num_threads must be an integer; got {num_threads!r}")
    if not 1 <= num_threads <= _most_threads():
        raise ValueError(
            f"set_num_threads: num_threads must be in [1, {_most_threads()}], 16 for each core; got {num_threads}"
        )
    if _teamless and num_threads > 1:
        warnings.warn(
            "set_num_threads: gconv's kernels stay on one thread, the process was forked from one whose kernels had "
            "run on several. Start it with the method spawn or forkserver, or fork before the first large layer",
            RuntimeWarning,
            stacklevel=2,
        )
    else:
        _num_threads = int(num_threads)
    try:
        import threadpoolctl
    except ImportError:
        return
    threadpoolctl.threadpool_limits(limits=int(num_threads), user_api="blas")


# GNU's OpenMP lets a thread that has nothing to do look for work so many times, some 0.4 ms, before it sleeps.
SPIN_COUNT = "30000"


@contextmanager
def short_waits() -> Iterator[None]:
    """Make an OpenMP library that is loaded inside this context let idle threads sleep soon.

    Left alone, GNU's spins for milliseconds after each parallel region, on the very cores that a matrix product of
    BLAS wants; told to sleep at once, each region of a training step waits for its threads to wake up, which costs a
    fifth of the step. It reads the variables once, when it is loaded, so the environment is left as it was, and what
    the user has set counts.
    """
    ours = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPIN_COUNT}
    if any(name in os.environ for name in ours):
        yield
        return
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


_teamless = False  # forked from a process with a team of threads


def one_thread_after_fork(team_has_run: Callable[[], bool]) -> None:
    """Keep forked processes to one thread where ``team_has_run`` says that their parent has had several at work.

    GNU's OpenMP would wait for ever for threads that only the parent has; a team of one needs none.
    """

    def limit() -> None:
        global _num_threads, _teamless
        if team_has_run():
            _num_threads, _teamless = 1, True

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=limit)
