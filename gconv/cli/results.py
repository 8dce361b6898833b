"""What ``gconv train`` leaves in a run folder, and says about it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from gconv.backends import get_backend
from gconv.cli.source import DataSet
from gconv.cli.summary import Evaluated, evaluated
from gconv.files import save_checkpoint, write_atomically
from gconv.results.environment import environment
from gconv.results.metrics import most_confused, precision, recall
from gconv.results.plots import plot_confusion, plot_filters, plot_history, plot_mistakes
from gconv.results.report import Report
from gconv.solver import Solver
from gconv.training.callbacks.logs import rows

__all__ = ["write_results"]


def write_results(solver: Solver, data: DataSet, config: dict[str, Any], out: Path) -> None:
    """Write weights, pictures, results.json and report.html, and print what came out."""
    model = solver.model
    arrays = {f"best.{name}": get_backend(w).to_numpy(w) for name, w in model.params.items()}
    save_checkpoint(out / "best.safetensors", arrays, {"model": model.config, "epoch": solver.epoch})
    plot_history(solver, out / "history.png")
    plot_filters(model.params["W1"], out / "filters.png")
    click.echo(f"\nTime                 {solver.seconds:.1f} s, {solver.epoch} epochs")
    found = evaluated(model, data)
    found.echo(data)
    plot_confusion(found.confusion, out / "confusion.png", data.class_names)
    plot_mistakes(data.pictures, data.arrays["y_test"], found.test_scores, out / "mistakes.png", data.class_names)
    results = {
        "epochs": solver.epoch,
        "iterations": solver.iteration,
        "seconds": solver.seconds,
        "stopped": solver.stopped,
        "best_val_acc": solver.best_val_acc,
        "val_acc": found.validation,
        "test_acc": found.test,
    }
    write_atomically(out / "results.json", json.dumps(results, indent=2).encode() + b"\n")
    _report(solver, data, config, found, out)
    click.echo(f"Report               {out / 'report.html'}  (pictures, tables and settings on one page)")
    click.echo(f"Best weights         {out / 'best.safetensors'}  (gconv eval {out / 'best.safetensors'})")


def _report(solver: Solver, data: DataSet, config: dict[str, Any], found: Evaluated, out: Path) -> None:
    confusion = found.confusion
    classes = zip(
        data.class_names,
        confusion.sum(axis=1).tolist(),
        map(_percent, precision(confusion)),
        map(_percent, recall(confusion)),
        strict=True,
    )
    columns = ["iteration", "epoch", "loss", "train_acc", "val_acc", "learning_rate"]
    checks = [[record[name] for name in columns] for record in rows(solver.run)]
    ended = solver.stopped or ("interrupted" if solver.failure is not None else "all epochs done")
    Report(
        title=f"ThreeLayerConvNet on {config['data']}",
        facts={
            "Test accuracy": f"{found.test:.2%}",
            "Validation accuracy": f"{found.validation:.2%}",
            "Training": f"{solver.seconds:.1f} s",
            "Epochs": str(solver.epoch),
            "Ended": ended,
        },
        pictures=[
            ("Training", [out / "history.png"]),
            ("What the first layer learnt, and what is taken for what", [out / "filters.png", out / "confusion.png"]),
            ("The most confident mistakes on the test images", [out / "mistakes.png"]),
        ],
        tables=[
            ("Classes, on the test images", ["class", "images", "precision", "recall"], list(classes)),
            ("Most often confused", ["is", "taken for", "times"], most_confused(confusion, data.class_names)),
            ("Accuracy checks", columns, checks),
        ],
        settings=[
            ("Configuration", config),
            ("Model", {**solver.model.config, "parameters": sum(w.size for w in solver.model.params.values())}),
            ("Environment", environment()),
        ],
    ).write(out / "report.html")


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"
