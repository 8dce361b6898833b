"""``gconv eval``: a checkpoint's accuracy."""

from __future__ import annotations

from pathlib import Path

import click

from gconv.backends import NAMES, get_backend, use_backend
from gconv.classifiers import model_from_config
from gconv.cli.source import load_data
from gconv.cli.stored import read_stored
from gconv.cli.summary import evaluated
from gconv.files import CheckpointError, load_checkpoint
from gconv.training.snapshots import group

__all__ = ["evaluate"]


@click.command("eval")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", metavar="digits|cifar10|DIR", help="[default: what the run was trained on]")
@click.option("--backend", type=click.Choice(["auto", *NAMES]), help="[default: GCONV_BACKEND, else auto]")
def evaluate(checkpoint: Path, data: str | None, backend: str | None) -> None:
    """Print validation, test and per-class accuracy of the best weights in CHECKPOINT."""
    if backend is not None:
        use_backend(backend)
    arrays, description = load_checkpoint(checkpoint)
    if not isinstance(description.get("model"), dict):
        raise CheckpointError(f"{checkpoint} must say which of gconv's models it is of; it does not")
    kind, weights = "best_", group(arrays, "best")
    if not weights:
        kind, weights = "", group(arrays, "param")
    try:
        model = model_from_config(description["model"], weights)
        if hasattr(model, "buffers"):
            model.buffers = {name: get_backend().asarray(a) for name, a in group(arrays, f"{kind}buffer").items()}
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{checkpoint} must hold a model of gconv: {error}") from error
    dataset = load_data(data or _trained_on(checkpoint))
    evaluated(model, dataset).echo(dataset)


def _trained_on(checkpoint: Path) -> str:
    """Return ``--data`` of the run whose folder, or whose folder of checkpoints, holds the file."""
    for folder in (checkpoint.absolute().parent, checkpoint.absolute().parent.parent):
        if (folder / "config.json").is_file():
            return str(read_stored(folder / "config.json", ("data",))["data"])
    raise click.UsageError(f"--data is needed: there is no config.json of a run beside {checkpoint}")
