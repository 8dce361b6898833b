"""The plot of a sweep."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

from gconv.files import write_atomically

__all__ = ["plot_sweep"]

LINES = 16  # more could not be told apart


def plot_sweep(results: list[dict[str, Any]], varied: list[str], path: Path) -> None:
    """Plot validation accuracies against the number that was varied most, a line for each choice of the others.

    Where no number was varied, or there would be more than LINES lines, every run is a bar, the best above.
    """
    from matplotlib.figure import Figure

    along = _along(results, varied)
    others = [name for name in varied if name != along]
    lines: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        lines.setdefault(_label(result, others), []).append(result)
    if along is None or len(lines) > LINES:
        figure = Figure(figsize=(8, 1.5 + 0.28 * len(results)), layout="constrained")
        axes = figure.subplots()
        axes.barh([_label(result, varied) for result in results], [result["val_acc"] for result in results])
        axes.invert_yaxis()
        axes.set(xlabel="Best validation accuracy", xlim=(0, 1))
        axes.grid(axis="x", alpha=0.3)
    else:
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        # Runs that came out the same must not hide each other.
        for (label, line), marker in zip(lines.items(), itertools.cycle("os^Dv"), strict=False):
            line = sorted(line, key=lambda result: float(result[along]))
            x, y = [r[along] for r in line], [r["val_acc"] for r in line]
            axes.plot(x, y, marker=marker, fillstyle="none", alpha=0.8, label=label)
        _scale(axes, [float(result[along]) for result in results])
        axes.set(xlabel=along.replace("_", " "), ylabel="Best validation accuracy")
        axes.grid(alpha=0.3)
        if others:
            axes.legend()
    axes.set_title(f"{len(results)} runs on {results[0]['data']}")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_atomically(path, image.getvalue())


def _along(results: list[dict[str, Any]], varied: list[str]) -> str | None:
    numbers = [name for name in varied if all(isinstance(result[name], (int, float)) for result in results)]
    return max(numbers, key=lambda name: len({result[name] for result in results}), default=None)


def _label(result: dict[str, Any], names: list[str]) -> str:
    values = (result[name] for name in names)
    return ", ".join(
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, (int, float)) else str(value)
        for name, value in zip(names, values, strict=True)
    )


def _scale(axes: Any, values: list[float]) -> None:
    positive = [value for value in values if value > 0]
    if not positive or max(positive) < 10 * min(positive):
        return
    if len(positive) < len(values):
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
    else:
        axes.set_xscale("log")
    axes.margins(x=0.05)
