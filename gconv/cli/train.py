"""``gconv train``: a ThreeLayerConvNet on real images, with a folder of results."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gconv import __version__
from gconv.backends import NAMES, get_backend, use_backend
from gconv.cli.options import DEFAULTS, build, training_options, with_defaults
from gconv.cli.results import write_results
from gconv.cli.signals import exit_code
from gconv.cli.source import DataSet, load_data
from gconv.cli.stored import read_stored
from gconv.files import locked, remove_unfinished, write_atomically

__all__ = ["train"]


@click.command()
@training_options
@click.option("--backend", type=click.Choice(["auto", *NAMES]), help="[default: GCONV_BACKEND, else auto]")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The run folder. [default: runs/DATA-DATE-TIME]",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out, interrupted or finished.")
@click.pass_context
def train(context: click.Context, /, out: Path | None, resume: bool, backend: str | None, **options: Any) -> None:
    """Train a three-layer convolutional network and write what became of it to a folder.

    conv - relu - 2x2 max pool - affine - relu - affine - softmax. The folder gets report.html, a page with
    everything on it; its parts (config.json, metrics.jsonl, results.json, history.png, filters.png,
    confusion.png, mistakes.png), a checkpoint an epoch (checkpoints/) and the best weights. Ctrl-C and
    SIGTERM end early and keep the best weights; --resume goes on.
    """
    if backend is not None:
        use_backend(backend)
    given = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    out = _run_folder(out, resume, options["data"])
    data = load_data(_config(out, resume, options, given)["data"])
    with locked(out / ".lock", f"--out {out} must have one training at a time"):
        # Once more: the folder may have been taken in the meantime.
        config = _config(out, resume, options, given)
        _train(context, out, resume, config, data)


def _train(context: click.Context, out: Path, resume: bool, config: dict[str, Any], data: DataSet) -> None:
    remove_unfinished(out)
    write_atomically(out / "config.json", json.dumps({**config, "gconv": __version__}, indent=2).encode() + b"\n")
    solver = build(config, data, checkpoint_name=str(out / "checkpoints" / "run"), log=out / "metrics.jsonl")
    _announce(config, data, out)
    try:
        if resume:
            solver.resume()
        else:
            solver.train()
    except KeyboardInterrupt as error:
        write_results(solver, data, config, out)
        click.echo(f"Interrupted; the best weights so far were kept. Go on with: gconv train --resume --out {out}")
        context.exit(exit_code(error))
    write_results(solver, data, config, out)


def _run_folder(out: Path | None, resume: bool, data: str) -> Path:
    if out is None:
        if resume:
            raise click.UsageError("--resume needs --out, the folder of the run to go on with")
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        return Path("runs") / f"{data if data in DEFAULTS else Path(data).resolve().name}-{stamp}"
    return out


def _config(out: Path, resume: bool, options: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """Return the run's options: those of the run that is resumed, or the given ones and the defaults."""
    stored = out / "config.json"
    if not resume and stored.exists():
        raise click.UsageError(
            f"--out {out} already holds a run; add --resume to go on with it, or name another folder"
        )
    if not stored.exists():
        return with_defaults(options)
    config = read_stored(stored, options)
    config.pop("gconv", None)
    # A schedule spreads over all epochs: with other ones it would be another run.
    free = {"patience", "time_limit"} | ({"epochs"} if config["schedule"] == "constant" else set())
    for name in sorted(given - free):
        if options[name] != config[name]:
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} must be {config[name]}, as the run in {out} has it; got {options[name]}")
    return {**config, **{name: options[name] for name in given}}


def _announce(config: dict[str, Any], data: DataSet, out: Path) -> None:
    images = data.arrays["X_train"]
    size = " x ".join(map(str, images.shape[1:]))
    click.echo(
        f"Training on {len(images)} images of {size} ({config['data']}), {config['epochs']} epochs, "
        f"backend {get_backend().name}, results in {out}"
    )
