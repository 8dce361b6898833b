"""What a trained model does on the test data, as text and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gconv.cli.source import DataSet
from gconv.metrics import class_accuracy, confusion_matrix, predict
from gconv.vis_utils import plot_confusion

__all__ = ["report_test"]


def report_test(model: Any, data: DataSet, picture: Path | None = None) -> None:
    """Print validation, test and per-class accuracy, and draw the confusion matrix where asked to."""
    arrays, names = data.arrays, data.class_names
    validation = (predict(model, arrays["X_val"]) == arrays["y_val"]).mean()
    confusion = confusion_matrix(arrays["y_test"], predict(model, arrays["X_test"]), len(names))
    click.echo(f"Validation accuracy  {validation:.4f}  ({len(arrays['y_val'])} images)")
    click.echo(f"Test accuracy        {confusion.trace() / max(confusion.sum(), 1):.4f}  ({confusion.sum()} images)")
    click.echo(
        "Per class            "
        + "  ".join(f"{name} {share:.2f}" for name, share in zip(names, class_accuracy(confusion), strict=True))
    )
    if picture is not None:
        plot_confusion(confusion, picture, names)
