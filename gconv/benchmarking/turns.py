"""Measurements of several libraries in turn, each in a process of its own.

Two thread pools in one process steal each other's cores; and where they take turns, a machine that slows down slows
down all.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["Worker", "in_turns", "peers_of", "python_command", "summary"]


def python_command(program: str, *options: str) -> list[str]:
    """Return the command of a process that finds the modules that this one finds, and runs ``program``."""
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{program}", *options]


class Worker:
    """A process of gconv.benchmarking.worker."""

    def __init__(self, module: str, options: list[str], environment: dict[str, str] | None = None) -> None:
        command = python_command("from gconv.benchmarking.worker import main; main()", module, *options)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, **pipes)
        begin = self._read()
        self.rows: list[str] = begin["rows"]
        self.versions: dict[str, str] = begin["versions"]

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"the worker ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def measure(self, row: str, samples: int) -> dict[str, Any]:
        """Return what the worker measured of a row."""
        print(json.dumps({"row": row, "samples": samples}), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(timeout=60)


def peers_of(row: str, peer_rows: list[str]) -> list[str]:
    """Return the peer's rows that a row of ours is compared with."""
    plain = re.sub(r", (no )?graph$", "", row)
    return [name for name in peer_rows if name == plain or name.startswith(f"{plain} [")]


def summary(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one measurement of several blocks."""
    wrong = [block["error"] for block in blocks if "error" in block]
    if wrong:
        return {"error": wrong[0]}
    times = sorted(t for block in blocks for t in block["ms"])
    quarter = len(times) // 4
    return {
        "median_ms": statistics.median(times),
        "quarter_ms": [times[quarter], times[-1 - quarter]],
        "samples": len(times),
        "bytes": blocks[0]["bytes"],
        "flops": blocks[0]["flops"],
    }


def in_turns(workers: dict[str, Worker], row: str, rounds: int, samples: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what each library measured of a row: (its name, or "name [variant]", summary).

    The first worker is ours, and names the row; the others may have it in several variants.
    """
    blocks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for name, worker in workers.items():
            for variant in peers_of(row, worker.rows):
                blocks.setdefault((name, variant), []).append(worker.measure(variant, samples))
                time.sleep(0.02)
    for (name, variant), found in blocks.items():
        suffix = re.search(r"\[.*\]$", variant)
        yield f"{name} {suffix[0]}" if suffix else name, summary(found)
