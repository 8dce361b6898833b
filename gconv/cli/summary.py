"""What a trained model does on the test data, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from gconv._typing import Array
from gconv.cli.source import DataSet
from gconv.results.metrics import accuracy, confusion_matrix, recall
from gconv.training.evaluation import predict, scores

__all__ = ["Evaluated", "evaluated"]


@dataclass(frozen=True)
class Evaluated:
    """Accuracies in [0, 1], counts by true and predicted class, and the scores of the test images."""

    validation: float
    test: float
    confusion: Array
    test_scores: Array

    def echo(self, data: DataSet) -> None:
        """Print validation, test and per-class accuracy."""
        click.echo(f"Validation accuracy  {self.validation:.4f}  ({len(data.arrays['y_val'])} images)")
        click.echo(f"Test accuracy        {self.test:.4f}  ({self.confusion.sum()} images)")
        shares = zip(data.class_names, recall(self.confusion), strict=True)
        click.echo("Per class            " + "  ".join(f"{name} {share:.2f}" for name, share in shares))


def evaluated(model: Any, data: DataSet) -> Evaluated:
    """Evaluate a model on validation and test data; prints nothing."""
    arrays = data.arrays
    test_scores = scores(model, arrays["X_test"])
    predicted = test_scores.argmax(axis=1)
    return Evaluated(
        accuracy(arrays["y_val"], predict(model, arrays["X_val"])),
        accuracy(arrays["y_test"], predicted),
        confusion_matrix(arrays["y_test"], predicted, len(data.class_names)),
        test_scores,
    )
