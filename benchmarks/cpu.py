"""Times gconv on the CPU next to PyTorch, to the course's ways and to the machine's own ceilings.

    python -m benchmarks.cpu --out results        a table, results/cpu.json, results/cpu.txt and results/cpu.png

Each library has a process of its own, and they take turns in short blocks with a pause; medians, with the spread
between the lowest and highest quarter. Then one thread against all, the cost by batch, and the memory of a large batch.
GCONV_DATA_DIR adds an epoch of CIFAR-10.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

from gconv.benchmarking.turns import Worker, in_turns, python_command

# PyTorch's time / gconv's time; forward and backward together where both stand.
GOALS = {
    r"^step|^solver": 3.0,
    r"^seed conv": 3.0,
    r"^conv first layer|^conv-ReLU": 2.0,
    r"^conv deep": 1.3,
    r"^max pool .x. float.. forward": 2.0,
    r"^max pool .x. float.. backward": 1.0,
    r"^batchnorm|^softmax|^adam, 824": 1.5,
}
THREADED = r"^step|^conv (first layer|deep)|^conv-ReLU|^batchnorm"

MEMORY = """
import resource, sys
import numpy as np
from gconv.classifiers import ThreeLayerConvNet
from gconv.optim import adam
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
model = ThreeLayerConvNet(rng=0)
configs = {name: {"learning_rate": 1e-3} for name in model.params}
def step(x, y):
    _, grads = model.loss(x, y)
    for name, w in model.params.items():
        adam(w, grads[name], configs[name], out=w)
    return grads
step(np.zeros((50, 3, 32, 32), np.float32), np.zeros(50, int))
n = 2000
x, y = np.ones((n, 3, 32, 32), np.float32), np.zeros(n, int)
# what the layers hand to each other: pooled images, places, their gradient, hidden values and scores both ways
handed = n * (8192 * (4 + 1 + 4) + 2 * 100 * 4 + 2 * 10 * 4) / 2**20
before = peak()
step(x, y)
print(peak() - before, handed)
"""


def ratio(found: dict[str, Any]) -> tuple[float, str] | None:
    """Return PyTorch's best time / gconv's, and which of its variants that is."""
    times = {name: one["median_ms"] for name, one in found.items() if name.startswith("PyTorch") and "median_ms" in one}
    if not times or "median_ms" not in found["gconv"]:
        return None
    best = min(times, key=lambda name: times[name])
    return times[best] / found["gconv"]["median_ms"], best.removeprefix("PyTorch").strip(" []")


def goal(row: str) -> float | None:
    """Return the ratio that a row is meant to reach."""
    return next((value for pattern, value in GOALS.items() if re.search(pattern, row)), None)


def share(one: dict[str, Any], results: dict[str, Any], dtype: str) -> str:
    """Return what a row reaches of the ceilings of the same run."""
    shares, seconds = [], one["median_ms"] / 1e3
    for unit, ceiling in (("bytes", "ceiling: copy"), ("flops", f"ceiling: {dtype} product")):
        top = results.get(ceiling, {}).get("gconv", {})
        if one[unit] and top.get("median_ms"):
            rate, best = one[unit] / seconds, top[unit] / (top["median_ms"] / 1e3)
            shares.append(f"{rate / 1e9:.1f} G{'B' if unit == 'bytes' else 'FLOP'}/s, {rate / best:.0%}")
    return "; ".join(shares)


def line(row: str, results: dict[str, Any]) -> str:
    """Return a row of the table."""
    mine = results[row]["gconv"]
    if "error" in mine:
        return f"| {row} | failed: {mine['error']} | | | | |"
    low, high = mine["quarter_ms"]
    found = ratio(results[row])
    text = "not measured" if found is None else f"{found[0]:.2f}{f' ({found[1]})' if found[1] else ''}"
    others = [
        f"{name.strip('gconv []')} {one['median_ms'] / mine['median_ms']:.2f}"
        for name, one in results[row].items()
        if name.startswith("gconv [") and "median_ms" in one
    ]
    wanted = goal(row)
    dtype = "float64" if "float64" in row else "float32"
    cells = [row, f"{mine['median_ms']:.4f} ({low:.4f} to {high:.4f})", share(mine, results, dtype), text]
    return f"| {' | '.join(cells)} | {wanted or ''} | {', '.join(others)} |"


def together(results: dict[str, Any]) -> list[str]:
    """Return the ratios of forward and backward together."""
    lines = []
    for row in [row for row in results if " forward" in row]:
        other = re.sub(r" forward", " backward", row)
        other = next((name for name in results if name.startswith(other)), "")
        if not other or ratio(results[row]) is None or ratio(results[other]) is None:
            continue
        mine, theirs = 0.0, 0.0
        for name in (row, other):
            one, (times, _) = results[name]["gconv"]["median_ms"], ratio(results[name]) or (0.0, "")
            mine, theirs = mine + one, theirs + times * one
        lines.append(f"{row.replace(' forward', '')}, forward and backward: {theirs / mine:.2f}")
    return lines


def measure(workers: dict[str, Worker], options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print the rows."""
    results: dict[str, Any] = {}
    for row in workers["gconv"].rows:
        unwanted = "[" in row or not re.search(options.rows, row)
        if unwanted or ("CIFAR" in row and "GCONV_DATA_DIR" not in os.environ):
            continue
        rounds = options.rounds if "CIFAR" not in row else 1
        results[row] = dict(in_turns(workers, row, rounds, options.samples))
        print(line(row, results), flush=True)
    return results


def scaling(options: argparse.Namespace) -> dict[str, Any]:
    """Return the gain of all threads over one, the two in turn."""
    all_threads, one = (Worker("gconv.benchmarking.rows", [], extra) for extra in ({}, {"OMP_NUM_THREADS": "1"}))
    found: dict[str, Any] = {}
    for row in [row for row in all_threads.rows if re.search(THREADED, row) and "[" not in row]:
        if re.search(options.rows, row):
            times = dict(in_turns({"all": all_threads, "one": one}, row, options.rounds, options.samples))
            found[row] = times["one"]["median_ms"] / times["all"]["median_ms"]
    for worker in (all_threads, one):
        worker.close()
    return found


def chart(results: dict[str, Any], path: Path) -> None:
    """Draw the ratios with their goals."""
    from matplotlib.figure import Figure

    found = {row: (value[0], goal(row)) for row, one in results.items() if (value := ratio(one)) is not None}
    figure = Figure(figsize=(9, 1 + 0.28 * len(found)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(found)), [value for value, _ in found.values()], color="tab:blue", label="measured")
    goals = [(place, wanted) for place, (_, wanted) in enumerate(found.values()) if wanted]
    axes.plot([w for _, w in goals], [p for p, _ in goals], "|", color="black", markersize=14, label="goal")
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_yticks(range(len(found)), list(found))
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("PyTorch's time / gconv's time (longer is better)")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=5, help="in each turn")
    parser.add_argument("--rows", default="", help="a regular expression: only rows that it finds")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["GCONV_BACKEND"] = "cpu"
    workers = {"gconv": Worker("gconv.benchmarking.rows", [])}
    if importlib.util.find_spec("torch"):
        workers["PyTorch"] = Worker("gconv.benchmarking.torch_rows", [])
    versions = {"date": date.today().isoformat(), "processor": platform.machine()}
    versions |= {key: value for worker in workers.values() for key, value in worker.versions.items()}
    head = [f"{name}: {value}" for name, value in versions.items()]
    head += ["", "| row | ms, median (middle half) | of the ceilings | PyTorch's time / gconv's | goal | other ways' |"]
    head += ["|---|---|---|---|---|---|"]
    print("\n".join(head), flush=True)
    results = measure(workers, options)
    for worker in workers.values():
        worker.close()
    tail = together(results)
    threads = scaling(options)
    tail += [f"all threads against one, {row}: {gain:.2f}" for row, gain in threads.items()]
    if {"step, batch 50", "step, batch 200"} <= set(results):
        small, large = (results[f"step, batch {n}"]["gconv"]["median_ms"] for n in (50, 200))
        tail.append(f"cost of 4 times the batch: {large / small:.2f} times")
    done = subprocess.run(python_command(MEMORY), capture_output=True, text=True, check=True)
    rise, handed = map(float, done.stdout.split())
    tail.append(f"a step at batch 2,000: peak memory rises by {rise:.0f} MB, of which layers hand on {handed:.0f} MB")
    print("\n".join(tail))
    table = [line(row, results) for row in results]
    measured = {
        "versions": versions,
        "rows": results,
        "threads": threads,
        "memory_mb": {"rise": rise, "handed": handed},
    }
    (options.out / "cpu.json").write_text(json.dumps(measured, indent=1))
    (options.out / "cpu.txt").write_text("\n".join([*head, *table, "", *tail, ""]))
    chart(results, options.out / "cpu.png")


if __name__ == "__main__":
    main()
