"""Times gconv's GPU backend next to PyTorch and to the device's own ceilings.

    python -m benchmarks.gpu --out results            a table, results/gpu.json and results/gpu.txt

Each library has a process of its own, and they take turns in short blocks; medians, with the spread between the
lowest and highest quarter. --gpu-on-cpu --shrink 64 tries the command without a device: those times mean nothing.

To gconv's process this module is also the module of its rows, with the device's own clock (gconv.benchmarking.worker).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from gconv.backends import get_backend, unavailable_reason
from gconv.benchmarking.rows import gpu_rows as rows
from gconv.benchmarking.rows import prepare, synchronize, versions
from gconv.benchmarking.turns import Worker, peers_of, python_command, summary

__all__ = ["elapsed", "event", "main", "prepare", "rows", "synchronize", "versions"]

FIRST_CALL = """
import time; begin = time.perf_counter()
import cupy, gconv
from gconv.fast_layers import conv_forward_fast
x, w, b = (cupy.ones(s, "float32") for s in ((8, 3, 32, 32), (32, 3, 7, 7), (32,)))
out, _ = conv_forward_fast(x, w, b, {"stride": 1, "pad": 3})
float(out[0, 0, 0, 0])
print(time.perf_counter() - begin)
"""


def event() -> Any:
    """Return a CUDA event at the end of what is queued."""
    recorded = get_backend().xp.cuda.Event()
    recorded.record()
    return recorded


def elapsed(begin: Any, end: Any) -> float:
    """Return milliseconds between two events, once the second has happened."""
    end.synchronize()
    return float(get_backend().xp.cuda.get_elapsed_time(begin, end))


def measure_all(ours: Worker, peer: Worker | None, options: argparse.Namespace, deadline: float) -> dict[str, Any]:
    """Measure the rows, the two libraries in turn, until the time is used up."""
    results: dict[str, Any] = {}
    for row in [row for row in ours.rows if re.search(options.rows, row)]:
        if time.monotonic() > deadline:
            print(f"out of time before {row}", file=sys.stderr)
            break
        others = peers_of(row, peer.rows) if peer else []
        blocks: dict[str, list[dict[str, Any]]] = {name: [] for name in ("gconv", *others)}
        for _ in range(options.rounds):
            blocks["gconv"].append(ours.measure(row, options.samples))
            for name in others:
                if peer is not None:
                    blocks[name].append(peer.measure(name, options.samples))
                    time.sleep(0.01)
        results[row] = {name: summary(found) for name, found in blocks.items()}
        print(line(row, results), flush=True)
    return results


def line(row: str, results: dict[str, Any]) -> str:
    """Return a row of the table: time, share of the ceilings, ratio to each peer (above 1: gconv is faster)."""
    mine = results[row]["gconv"]
    if "error" in mine:
        return f"| {row} | failed: {mine['error']} | | |"
    seconds, shares = mine["median_ms"] / 1e3, []
    for unit, ceiling in (("bytes", "ceiling: copy"), ("flops", "ceiling: float32 product")):
        top = results.get(ceiling, {}).get("gconv", {})
        if mine[unit] and top.get("median_ms"):
            rate = mine[unit] / seconds
            best = top[unit] / (top["median_ms"] / 1e3)
            shares.append(f"{rate / 1e12:.2f} T{'B' if unit == 'bytes' else 'FLOP'}/s, {rate / best:.0%}")
    ratios = []
    for name, other in results[row].items():
        if name != "gconv" and "median_ms" in other:
            variant = re.search(r"\[(.*)\]", name)
            ratios.append(f"{other['median_ms'] / mine['median_ms']:.2f}{f' ({variant[1]})' if variant else ''}")
    low, high = mine["quarter_ms"]
    time_text = f"{mine['median_ms']:.4f} ({low:.4f} to {high:.4f})"
    return f"| {row} | {time_text} | {'; '.join(shares)} | {', '.join(ratios) or 'not measured'} |"


def first_calls(count: int) -> list[float]:
    """Return the seconds of import and first convolution in fresh processes, after one that fills the disk cache."""
    seconds = []
    for _ in range(count + 1):
        done = subprocess.run(python_command(FIRST_CALL), capture_output=True, text=True, check=True)
        seconds.append(float(done.stdout))
    return seconds[1:]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=7, help="in each block")
    parser.add_argument("--minutes", type=float, default=4.0, help="no row is begun after that")
    parser.add_argument("--shrink", type=int, default=1)
    parser.add_argument("--gpu-on-cpu", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--rows", default="", help="a regular expression: only rows that it finds")
    options = parser.parse_args()
    reason = None if options.gpu_on_cpu else unavailable_reason("gpu")
    if reason:
        parser.error(reason)
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["GCONV_BACKEND"] = "gpu"
    deadline = time.monotonic() + 60 * options.minutes
    extra = [f"--shrink={options.shrink}", *(["--gpu-on-cpu"] if options.gpu_on_cpu else [])]
    ours = Worker("benchmarks.gpu", extra)
    with_peer = not (options.no_peer or options.gpu_on_cpu) and importlib.util.find_spec("torch")
    peer = Worker("benchmarks.gpu_torch", []) if with_peer else None
    found = {"date": date.today().isoformat(), **ours.versions, **(peer.versions if peer else {})}
    header = "| row | ms, median (middle half) | of the ceilings | PyTorch's time / gconv's |\n|---|---|---|---|"
    print("\n".join(f"{name}: {value}" for name, value in found.items()), f"\n{header}", flush=True)
    results = measure_all(ours, peer, options, deadline)
    for worker in (ours, peer):
        if worker is not None:
            worker.close()
    fresh = [] if options.gpu_on_cpu else first_calls(3)
    if fresh:
        print(f"first call in a fresh process, warm disk cache: {statistics.median(fresh):.2f} s")
    table = "\n".join([header, *(line(row, results) for row in results)])
    texts = {
        "gpu.json": json.dumps({"versions": found, "rows": results, "first_call_s": fresh}, indent=1),
        "gpu.txt": "\n".join([*(f"{n}: {v}" for n, v in found.items()), table, f"first call: {fresh} s", ""]),
    }
    for name, text in texts.items():
        (options.out / name).write_text(text)


if __name__ == "__main__":
    main()
