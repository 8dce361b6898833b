"""A process that times rows on request: one line of JSON in, one out.

python -m gconv.benchmarking.worker gconv.benchmarking.rows [--shrink 64] [--gpu-on-cpu]

A module of rows has ``prepare()``, ``rows(shrink)``, ``synchronize()`` and ``versions()``, and where a device has a
clock of its own ``event()`` and ``elapsed(begin, end)``. A row is a function without arguments that returns (work,
bytes, FLOPs): ``work()`` does one repetition; bytes and FLOPs are the fewest that it needs, 0 where none are counted.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["HostClock", "main", "measure", "sample"]

TARGET_MS = 20  # of one sample: long against a launch
SLOW_MS = 300  # beyond it one sample is all there is time for


class HostClock:
    """The host's clock, where there is no device's."""

    def __init__(self, module: Any) -> None:
        self.synchronize = module.synchronize

    def event(self) -> float:
        """Return the time, everything queued done."""
        self.synchronize()
        return time.perf_counter()

    def elapsed(self, begin: float, end: float) -> float:
        """Return milliseconds."""
        return (end - begin) * 1e3


def sample(work: Callable[[], Any], repeats: int, clock: Any) -> float:
    """Return milliseconds a repetition."""
    clock.synchronize()
    begin = clock.event()
    for _ in range(repeats):
        work()
    return float(clock.elapsed(begin, clock.event())) / repeats


def measure(row: tuple[Any, float, float], samples: int, clock: Any) -> dict[str, Any]:
    """Warm up, choose how often a sample repeats the work, and take the samples."""
    work, size, flops = row
    gc.collect()  # not in a sample
    times = [sample(work, 1, clock)]
    if times[0] < SLOW_MS:
        for _ in range(3):
            work()
        once = min(sample(work, 1, clock) for _ in range(2))
        repeats = max(1, min(1000, round(TARGET_MS / max(once, 1e-4))))
        times = [sample(work, repeats, clock) for _ in range(samples)]
    return {"ms": times, "bytes": size, "flops": flops}


def main() -> None:
    """Answer requests until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module")
    parser.add_argument("--shrink", type=int, default=1)
    parser.add_argument("--gpu-on-cpu", action="store_true")
    options = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr
    if options.gpu_on_cpu:
        sys.path.insert(0, str(Path.cwd() / "tests"))
        from cuda_on_cpu import cupy_host

        cupy_host.settings["checked"] = False
        cupy_host.install()
    module = importlib.import_module(options.module)
    module.prepare()
    clock = module if hasattr(module, "event") and not options.gpu_on_cpu else HostClock(module)
    rows = module.rows(options.shrink)
    made: dict[str, Any] = {}
    print(json.dumps({"rows": list(rows), "versions": module.versions()}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        name = request["row"]
        try:
            if name not in made:
                made.clear()  # one row's arrays at a time
                made[name] = rows[name]()
            answer = measure(made[name], request["samples"], clock)
        except Exception as error:  # a row that fails is reported, and the others go on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
