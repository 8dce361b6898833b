"""``gconv bench``: naive loops, im2col, CPU, GPU and PyTorch on the layers of the course, and a chart."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from pathlib import Path
from typing import Any

import click

from gconv.backends import available_backends
from gconv.benchmarking.turns import Worker, in_turns
from gconv.files import write_atomically

__all__ = ["bench"]

ROWS = r"^(seed conv float64|max pool 2x2 float64|max pool 3x3 float64|step, batch 50)"
NAIVE_ROWS = r"^(seed conv|max pool)"


def _pattern(context: click.Context, param: click.Parameter, value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise click.UsageError(f"--rows must be a regular expression; got {value!r}: {error}") from error
    return value


@click.command()
@click.option("--images", default=10, show_default=True, type=click.IntRange(1, 100), help="Batch of the convolution.")
@click.option(
    "--rows", "pattern", default=ROWS, callback=_pattern, help="Regular expression: which rows; '' for all that fit."
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Turns of each library.")
@click.option("--samples", default=5, show_default=True, type=click.IntRange(1), help="Samples in each turn.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for bench.json and bench.png.")
def bench(images: int, pattern: str, rounds: int, samples: int, output: Path | None) -> None:
    """Compare the speed of what is installed here: each in a process of its own, in turn."""
    workers = _workers(images)
    results: dict[str, dict[str, Any]] = {}
    try:
        rows = [row for row in workers["cpu"].rows if re.search(pattern, row) and "[" not in row]
        if not rows:
            raise click.BadParameter(f"--rows must find a row; got {pattern!r}")
        click.echo("milliseconds, median (speed-up over the first)")
        for name in ("gpu", "PyTorch"):
            if name not in workers:
                click.echo(f"{name}: not on this machine" + (", gconv info says why" if name == "gpu" else ""))
        for row in rows:
            taking_part = {
                name: worker for name, worker in workers.items() if name != "naive" or re.search(NAIVE_ROWS, row)
            }
            results[row] = dict(in_turns(taking_part, row, rounds, samples))
            click.echo(_line(row, results[row]))
    finally:
        for worker in workers.values():
            worker.close()
    versions = {key: value for worker in workers.values() for key, value in worker.versions.items()}
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"versions": versions, "images": images, "rows": results}, indent=1)
        write_atomically(output / "bench.json", text.encode())
        _chart(results, output / "bench.png")
        click.echo(f"written: {output / 'bench.json'}, {output / 'bench.png'}")


def _workers(images: int) -> dict[str, Worker]:
    shrink = [f"--shrink={100 // images}"]
    workers: dict[str, Worker] = {
        str(name): Worker("gconv.benchmarking.rows", shrink, {"GCONV_BACKEND": name})
        for name in ("naive", "cpu", "gpu")
        if name in available_backends()
    }
    if "naive" in workers:  # the loops themselves: im2col with loops is nobody's way
        workers["naive"].rows = [row for row in workers["naive"].rows if "[" not in row]
    if importlib.util.find_spec("torch"):
        workers["PyTorch"] = Worker("gconv.benchmarking.torch_rows", shrink)
    return workers


def _line(row: str, found: dict[str, Any]) -> str:
    first = next((one["median_ms"] for one in found.values() if "median_ms" in one), None)
    cells = []
    for name, one in found.items():
        if "median_ms" in one:
            speed_up = f" ({first / one['median_ms']:.1f}x)" if first != one["median_ms"] else ""
            cells.append(f"{name} {one['median_ms']:.3f}{speed_up}")
        else:
            cells.append(f"{name} failed: {one['error']}")
    return f"{row}\n    {', '.join(cells)}"


def _chart(results: dict[str, dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for found in results.values() for name in found))
    figure = Figure(figsize=(9, 1.2 + 0.9 * len(results)), layout="constrained")
    axes = figure.subplots()
    height = 0.85 / max(len(found) for found in results.values())
    for name in names:
        at, medians, spread = [], [], []
        for place, found in enumerate(results.values()):
            one = found.get(name, {})
            if "median_ms" in one:
                at.append(place + (list(found).index(name) + 0.5 - len(found) / 2) * height)
                medians.append(one["median_ms"])
                spread.append([one["median_ms"] - one["quarter_ms"][0], one["quarter_ms"][1] - one["median_ms"]])
        axes.barh(at, medians, height, xerr=list(zip(*spread, strict=True)) or None, label=name, capsize=2)
    axes.set_yticks(range(len(results)), list(results))
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds, median and middle half (logarithmic, shorter is better)")
    figure.legend(loc="outside lower center", ncols=4)
    axes.grid(axis="x", alpha=0.3)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_atomically(path, image.getvalue())
