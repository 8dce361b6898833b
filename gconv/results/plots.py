"""Plots of a training run as files."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gconv._checks import check_ndim, check_shape, positive_int
from gconv._typing import Array
from gconv.backends import get_backend
from gconv.files import write_atomically
from gconv.results.grids import filter_grid, stretched

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_confusion", "plot_filters", "plot_history", "plot_mistakes"]


def plot_history(solver: Any, path: str | os.PathLike[str]) -> Path:
    """Plot the losses and accuracies of a Solver and write the picture to ``path`` (PNG).

    Parameters
    ----------
    solver : Solver
        After some training.
    path : path

    Returns
    -------
    Path
        ``path``
    """
    figure = _figure(11, 4.2)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    losses = np.asarray(solver.loss_history)
    iterations = np.arange(1, len(losses) + 1)
    window = max(1, len(losses) // 50)
    if window > 1:
        smooth = np.convolve(losses, np.full(window, 1 / window), mode="valid")
        loss_axes.plot(iterations, losses, color="#9ecae1", linewidth=0.8, label="each minibatch")
        loss_axes.plot(iterations[window - 1 :], smooth, color="#08519c", label=f"mean of {window}")
        loss_axes.legend()
    else:
        loss_axes.plot(iterations, losses, color="#08519c")
    loss_axes.set(title="Training loss", xlabel="Iteration", ylabel="Loss")
    accuracy_axes.plot(solver.eval_iterations, solver.train_acc_history, "o-", color="#08519c", label="training")
    accuracy_axes.plot(solver.eval_iterations, solver.val_acc_history, "o-", color="#d94801", label="validation")
    accuracy_axes.set(title="Accuracy", xlabel="Iteration", ylabel="Share of samples", ylim=(0, 1))
    accuracy_axes.legend(loc="lower right")
    for axes in (loss_axes, accuracy_axes):
        axes.grid(alpha=0.3)
    return _write(figure, path)


def plot_filters(w: Array, path: str | os.PathLike[str]) -> Path:
    """Plot convolution filters (F, C, HH, WW), as filter_grid lays them out, and write the picture to ``path`` (PNG).

    Parameters
    ----------
    w : array, shape (F, C, HH, WW)
    path : path

    Returns
    -------
    Path
        ``path``
    """
    grid = filter_grid(w)
    figure = _figure(6, 6 * grid.shape[0] / grid.shape[1] + 0.5)
    axes = figure.subplots()
    axes.imshow(grid, interpolation="nearest")
    axes.set(title=f"{w.shape[0]} filters of {' x '.join(map(str, w.shape[1:]))}")
    axes.axis("off")
    return _write(figure, path)


def plot_mistakes(
    X: Array,
    y: Array,
    scores: Array,
    path: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    count: int = 20,
) -> Path:
    """Plot the images that were taken for a wrong class with the most confidence, and write the picture (PNG).

    Parameters
    ----------
    X : array, shape (N, C, H, W)
        Bytes are shown as they are, other numbers stretched to the full range, image by image. Of one channel grey, of
        three colours, of any other number the mean in grey.
    y : integer array, shape (N,)
        Labels.
    scores : array, shape (N, num_classes)
        Their softmax is the confidence.
    path : path
    class_names : sequence of str, optional
        Numbers by default.
    count : int
        At most so many images.

    Returns
    -------
    Path
        ``path``

    Raises
    ------
    ValueError
        For shapes that do not match.
    """
    func = "plot_mistakes"
    check_ndim(func, "X", X, 4, "(N, C, H, W)")
    check_ndim(func, "scores", scores, 2, "(N, num_classes)")
    check_shape(func, "y", y, (len(X),), "to match X")
    check_shape(func, "scores", scores, (len(X), scores.shape[1]), "to match X")
    names = [str(i) for i in range(scores.shape[1])] if class_names is None else list(class_names)
    X, y, scores = (get_backend(array).to_numpy(array) for array in (X, y, scores))
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    predicted = scores.argmax(axis=1)
    confidence = exponentials.max(axis=1) / exponentials.sum(axis=1)
    wrong = np.flatnonzero(predicted != y)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][: positive_int(func, "count", count)]
    columns = max(1, min(5, len(chosen)))
    rows = max(1, math.ceil(len(chosen) / columns))
    figure = _figure(1.9 * columns + 0.6, 2.2 * rows + 0.7)
    figure.suptitle(f"The most confident of {len(wrong)} mistakes on {len(X)} images" if len(wrong) else "No mistakes")
    for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if place < len(chosen):
            index = chosen[place]
            axes.imshow(_shown(X[index]), interpolation="nearest", cmap="gray", vmin=0, vmax=1)
            title = f"{names[y[index]]} taken for\n{names[predicted[index]]} ({confidence[index]:.0%})"
            axes.set_title(title, fontsize=9, color="#a50f15")
    return _write(figure, path)


def _shown(image: Array) -> Array:
    """Return an image (C, H, W) as matplotlib shows it, in [0, 1]."""
    scaled = image / 255 if image.dtype == np.uint8 else stretched(image.astype(np.float64))
    return scaled.transpose(1, 2, 0) if len(image) == 3 else scaled.mean(axis=0)


def plot_confusion(confusion: Array, path: str | os.PathLike[str], class_names: Sequence[str] | None = None) -> Path:
    """Plot a confusion matrix and write the picture to ``path`` (PNG).

    Parameters
    ----------
    confusion : integer array, shape (C, C)
        Samples by true class (rows) and predicted class (columns), from gconv.results.metrics.confusion_matrix.
    path : path
    class_names : sequence of str, optional
        Numbers by default.

    Returns
    -------
    Path
        ``path``
    """
    check_ndim("plot_confusion", "confusion", confusion, 2, "(C, C)")
    size = len(confusion)
    names = [str(i) for i in range(size)] if class_names is None else list(class_names)
    if confusion.shape != (size, size) or len(names) != size:
        raise ValueError(
            f"plot_confusion: confusion must be square, with a name a class; got {confusion.shape}, {len(names)} names"
        )
    figure = _figure(1.4 + 0.5 * size, 1.5 + 0.5 * size)
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    right = np.trace(confusion) / max(confusion.sum(), 1)
    axes.set(title=f"Predictions on {confusion.sum()} samples, {right:.1%} right", xlabel="Predicted", ylabel="True")
    return _write(figure, path)


def _figure(width: float, height: float) -> Figure:
    # Not pyplot: it would pick a window system, and keep every figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Figure, path: str | os.PathLike[str]) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())
    return Path(path)
