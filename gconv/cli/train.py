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
from gconv.cli.options import DEFAULTS, build, check_options, check_together, training_options, with_defaults
from gconv.cli.results import write_results
from gconv.cli.signals import exit_code, uninterrupted
from gconv.cli.source import DataSet, load_data
from gconv.cli.stored import CONFIG, check_kind, missing_run, read_stored
from gconv.cli.types import Folder, flag
from gconv.files import (
    CheckpointError,
    list_checkpoints,
    load_checkpoint,
    locked,
    remove_unfinished,
    write_atomically,
)
from gconv.solver import Solver
from gconv.training.callbacks import StopCheckpoint

__all__ = ["train"]


@click.command()
@training_options
@click.option("--backend", type=click.Choice(["auto", *NAMES]), help="[default: GCONV_BACKEND, else auto]")
@click.option(
    "--out",
    type=Folder(),
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
    # Made once before anything is written: what can't be trained leaves no folder.
    _solver(_config(out, resume, options, given), data, out)
    with locked(out / ".lock", f"--out {out} must have one training at a time"):
        # Once more: the folder may have been taken in the meantime.
        config = _config(out, resume, options, given)
        _train(context, out, resume, config, data)


def _train(context: click.Context, out: Path, resume: bool, config: dict[str, Any], data: DataSet) -> None:
    solver, stop = _solver(config, data, out), _stop_file(out)
    remove_unfinished(out)
    write_atomically(out / CONFIG, json.dumps({**config, "gconv": __version__}, indent=2).encode() + b"\n")
    _announce(config, data, out)
    try:
        if resume:
            _go_on(solver, stop)
        else:
            solver.train()
    except KeyboardInterrupt as error:
        with uninterrupted():
            solver.save(stop)
        click.echo(f"Interrupted at iteration {solver.iteration}. Go on with: gconv train --resume --out {out}")
        write_results(solver, data, config, out)
        context.exit(exit_code(error))
    write_results(solver, data, config, out)
    if solver.stopped is not None:
        click.echo(f"Stopped by {solver.stopped}. Go on with: gconv train --resume --out {out}, and a higher limit")


def _stop_file(out: Path) -> Path:
    return out / "checkpoints" / "stopped.safetensors"


def _checkpoint_name(out: Path) -> str:
    return str(out / "checkpoints" / "run")


def _solver(config: dict[str, Any], data: DataSet, out: Path) -> Solver:
    check_together(config, data)
    stop, log = StopCheckpoint(_stop_file(out)), out / "metrics.jsonl"
    return build(config, data, log, [stop], checkpoint_name=_checkpoint_name(out))


def _go_on(solver: Solver, stop: Path) -> None:
    """Resume from the file of a stop, unless a whole epoch has been done since."""

    def iteration(path: Path) -> int:
        try:
            return int(load_checkpoint(path)[1]["iteration"])
        except (CheckpointError, FileNotFoundError, KeyError):
            return -1

    stopped = iteration(stop)
    if stopped < 0 or any(iteration(path) >= stopped for path in list_checkpoints(str(solver.checkpoint_name))):
        solver.resume()
    else:
        click.echo(f"Going on from {stop}, iteration {stopped}")
        solver.resume(stop)


def _run_folder(out: Path | None, resume: bool, data: str) -> Path:
    if out is None:
        if resume:
            raise click.UsageError("--resume needs --out, the folder of the run to go on with")
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        return Path("runs") / f"{data if data in DEFAULTS else Path(data).resolve().name}-{stamp}"
    return out


def _config(out: Path, resume: bool, options: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """Return the run's options: those of the run that is resumed, or the given ones and the defaults."""
    stored = out / CONFIG
    check_kind(out, CONFIG)
    if not resume:
        if _stop_file(out).exists() or list_checkpoints(_checkpoint_name(out)):
            text = f"--out {out} already holds a run; add --resume to go on with it, or name another folder"
            raise click.UsageError(text)
        return with_defaults(options)
    if not stored.exists():
        raise missing_run(out, CONFIG)
    config = read_stored(stored, options)
    check_options(config, stored)
    config.pop("gconv", None)
    # A schedule spreads over all epochs: with other ones it would be another run.
    free = {"patience", "time_limit"} | ({"epochs"} if config["schedule"] == "constant" else set())
    for name in sorted(given - free):
        if options[name] != config[name]:
            raise click.UsageError(
                f"{flag(name)} must be {config[name]}, as the run in {out} has it; got {options[name]}"
            )
    return {**config, **{name: options[name] for name in given}}


def _announce(config: dict[str, Any], data: DataSet, out: Path) -> None:
    images = data.arrays["X_train"]
    size = " x ".join(map(str, images.shape[1:]))
    click.echo(
        f"Training on {len(images)} images of {size} ({config['data']}), {config['epochs']} epochs, "
        f"backend {get_backend().name}, results in {out}"
    )
