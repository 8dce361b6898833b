"""``gconv sweep``: a training for every combination of options, with a table, a CSV file and a plot."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gconv._progress import Progress
from gconv.backends import NAMES, get_backend, use_backend
from gconv.cli.options import OPTIONS, build, check_options, check_together, data_option, with_defaults
from gconv.cli.signals import exit_code
from gconv.cli.source import DataSet, load_data
from gconv.cli.stored import SWEEP, check_kind, missing_run, read_stored
from gconv.cli.types import Folder, flag
from gconv.files import locked, remove_unfinished, save_checkpoint, write_atomically
from gconv.results.sweep_plot import plot_sweep
from gconv.training.callbacks import LastCheckpoint

__all__ = ["sweep"]

# Options whose values have commas of their own take one value.
SINGLE = ("augment",)


class Values(click.ParamType):
    """Several values of an option's type, with commas between."""

    def __init__(self, inner: click.ParamType[Any]) -> None:
        self._inner = inner
        self.name = f"{inner.name}[,...]"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[Any, ...]:
        """Return the values, each checked."""
        if isinstance(value, tuple):
            return value
        found = tuple(self._inner.convert(part.strip(), param, context) for part in str(value).split(","))
        if len(set(found)) < len(found):
            self.fail(f"must name each value once; got {value}", param, context)
        return found


def grid_options(command: Any) -> Any:
    """Add the options of a training, each with several values."""
    for name, settings in reversed(OPTIONS.items()):
        more = dict(settings)
        if name not in SINGLE:
            metavar = "|".join(more["type"].choices) if isinstance(more["type"], click.Choice) else "VALUE"
            more |= {"type": Values(more["type"]), "metavar": f"{metavar},..."}
            if "default" in more:
                more["default"] = str(more["default"])
        command = click.option(flag(name), show_default="default" in more, **more)(command)
    return data_option(command)


@click.command()
@grid_options
@click.option("--backend", type=click.Choice(["auto", *NAMES]), help="[default: GCONV_BACKEND, else auto]")
@click.option(
    "--out",
    type=Folder(),
    metavar="DIR",
    help="The sweep's folder. [default: runs/sweep-DATE-TIME]",
)
@click.option("--resume", is_flag=True, help="Go on with the sweep in --out, with its options.")
@click.pass_context
def sweep(context: click.Context, /, out: Path | None, resume: bool, backend: str | None, **options: Any) -> None:
    """Train with every combination of the given values, and compare the validation accuracies.

    An option takes several values with commas between, as in --learning-rate 1e-2,1e-3 --update-rule sgd,adam.
    The folder gets sweep.csv and sweep.png, and for each run its log (metrics.jsonl), result.json and best
    weights. Ctrl-C and SIGTERM interrupt, and --resume goes on where it was, also in the middle of a run.
    """
    if backend is not None:
        use_backend(backend)
    if out is None:
        if resume:
            raise click.UsageError("--resume needs --out, the folder of the sweep to go on with")
        out = Path("runs") / f"sweep-{datetime.now():%Y%m%d-%H%M%S}"
    given = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    grid = _grid(out, resume, options, given)
    data = load_data(grid["data"])
    # Made once before anything is written: what can't be trained leaves no folder.
    for run in _combinations(grid):
        check_together(run, data)
        build(run, data, log=out / "metrics.jsonl")
    with locked(out / ".lock", f"--out {out} must have one sweep at a time"):
        # Once more: the folder may have been taken in the meantime.
        grid = _grid(out, resume, options, given)
        write_atomically(out / SWEEP, json.dumps(grid, indent=2).encode() + b"\n")
        _sweep(context, out, grid, data)


def _sweep(context: click.Context, out: Path, grid: dict[str, Any], data: DataSet) -> None:
    runs = _combinations(grid)
    for path in (out, *(folder for folder in out.glob("run-*") if folder.is_dir())):
        remove_unfinished(path)
    total = sum(run["epochs"] for run in runs)
    click.echo(f"{len(runs)} runs, {total} epochs, backend {get_backend().name}, results in {out}")
    results: list[dict[str, Any]] = []
    try:
        with Progress(True, 0, total, unit="epoch") as bar:
            for number, run in enumerate(runs, 1):
                text = _varied(runs, run)
                results.append(_result(run, data, out / f"run-{number:03}", bar))
                bar.print(f"{number}/{len(runs)}  {text}  {_accuracy(results[-1])}")
    except KeyboardInterrupt as error:
        click.echo(f"Interrupted after {len(results)} runs. Go on with: gconv sweep --resume --out {out}")
        context.exit(exit_code(error))
    results.sort(key=lambda result: -1.0 if math.isnan(result["val_acc"]) else result["val_acc"], reverse=True)
    _write_csv(results, out / "sweep.csv")
    varied = [name for name in OPTIONS if len({run[name] for run in runs}) > 1]
    plot_sweep(results, varied, out / "sweep.png")
    _echo_table(results, varied)
    click.echo(f"\nTable and plot: {out / 'sweep.csv'}, {out / 'sweep.png'}")


def _grid(out: Path, resume: bool, options: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """Return the options: those of the sweep that is resumed, or the given ones."""
    stored = out / SWEEP
    check_kind(out, SWEEP)
    wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    if not resume:
        if any(out.glob("run-*")):
            raise click.UsageError(f"--out {out} already holds a sweep; add --resume to go on with it")
        return wanted
    if not stored.exists():
        raise missing_run(out, SWEEP)
    grid = read_stored(stored, ("data", *OPTIONS))
    for name in OPTIONS:
        for value in grid[name] if isinstance(grid[name], list) else [grid[name]]:
            check_options({name: value}, stored, [name])
    for name in sorted(given):
        if wanted[name] != grid[name]:
            raise click.UsageError(
                f"{flag(name)} must be {grid[name]}, as the sweep in {out} has it; got {wanted[name]}"
            )
    return grid


def _combinations(grid: dict[str, Any]) -> list[dict[str, Any]]:
    values = [grid[name] if isinstance(grid[name], list) else [grid[name]] for name in OPTIONS]
    return [
        with_defaults({"data": grid["data"], **dict(zip(OPTIONS, chosen, strict=True))})
        for chosen in itertools.product(*values)
    ]


class _Advance:
    """Moves the sweep's bar by an epoch."""

    def __init__(self, bar: Progress, done: int) -> None:
        self._bar, self._done = bar, done

    def on_resume(self, solver: Any) -> None:
        self._bar.print(f"going on after epoch {solver.epoch}")

    def on_epoch(self, solver: Any) -> None:
        self._bar.advance(self._done + solver.epoch, solver.loss_history, solver.val_acc_history)


def _result(run: dict[str, Any], data: DataSet, folder: Path, bar: Progress) -> dict[str, Any]:
    """Return a run's result: the stored one, or that of its training, begun or gone on with."""
    stored, last, done = folder / "result.json", folder / "last.safetensors", bar.position
    if stored.exists():
        result = read_stored(stored, ("data", *OPTIONS, "val_acc", "seconds"))
        bar.advance(done + run["epochs"], [], [])
        return result
    solver = build(
        run,
        data,
        log=folder / "metrics.jsonl",
        more_callbacks=[LastCheckpoint(last), _Advance(bar, done)],
        verbose=False,
        progress=False,
    )
    note = ""
    try:
        if last.exists():
            solver.resume(last)
        else:
            solver.train()
    except FloatingPointError:
        note = f"diverged at iteration {len(solver.loss_history) + 1}"
    arrays = {f"best.{name}": get_backend(w).to_numpy(w) for name, w in solver.model.params.items()}
    save_checkpoint(folder / "best.safetensors", arrays, {"model": solver.model.config, "epoch": solver.epoch})
    val_acc = max(solver.val_acc_history, default=math.nan)
    result = {**run, "val_acc": val_acc, "seconds": solver.seconds, "note": note or solver.stopped or ""}
    write_atomically(stored, json.dumps(result, indent=2).encode() + b"\n")
    last.unlink(missing_ok=True)
    bar.advance(done + run["epochs"], [], [])
    return result


def _varied(runs: list[dict[str, Any]], run: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_text(run[name])}" for name in OPTIONS if len({r[name] for r in runs}) > 1)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _accuracy(result: dict[str, Any]) -> str:
    return f"{result['val_acc']:.4f}" + (f"  ({result['note']})" if result["note"] else "")


def _write_csv(results: list[dict[str, Any]], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(results[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(results)
    write_atomically(path, text.getvalue().encode())


def _echo_table(results: list[dict[str, Any]], varied: list[str]) -> None:
    header = [*varied, "val_acc", "seconds"]
    lines = [[*(_text(r[name]) for name in varied), _accuracy(r), f"{r['seconds']:.1f}"] for r in results]
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
    click.echo("")
    for line in (header, *lines):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
