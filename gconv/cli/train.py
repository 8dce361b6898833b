"""``gconv train``: a ThreeLayerConvNet on real images, with a folder of results."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from gconv import __version__
from gconv.backends import NAMES, get_backend, use_backend
from gconv.checkpoint import save_checkpoint
from gconv.classifiers import ThreeLayerConvNet
from gconv.cli.source import DataSet, load_data
from gconv.cli.summary import report_test
from gconv.files import write_atomically
from gconv.optim import UPDATE_RULES
from gconv.solver import Solver
from gconv.vis_utils import plot_filters, plot_history

__all__ = ["train"]

# The digits are 8x8 pixels and few: small filters, more epochs.
DEFAULTS = {
    "digits": {"epochs": 40, "filter_size": 3, "hidden_dim": 100, "weight_scale": 1e-2},
    "cifar10": {"epochs": 5, "filter_size": 7, "hidden_dim": 500, "weight_scale": 1e-3},
}
POSITIVE = click.IntRange(min=1)


@click.command()
@click.option(
    "--data",
    default="digits",
    show_default=True,
    metavar="digits|cifar10|DIR",
    help="The digits of scikit-learn, CIFAR-10 (found or downloaded), or CIFAR-10 in a folder.",
)
@click.option("--epochs", type=POSITIVE, help="Passes over the training images. [default: 40 digits, 5 CIFAR-10]")
@click.option("--batch-size", type=POSITIVE, default=50, show_default=True, help="Images a step.")
@click.option("--update-rule", type=click.Choice(list(UPDATE_RULES)), default="adam", show_default=True)
@click.option("--learning-rate", type=click.FloatRange(min=0), default=1e-3, show_default=True)
@click.option("--reg", type=click.FloatRange(min=0), default=1e-3, show_default=True, help="L2 strength.")
@click.option("--num-filters", type=POSITIVE, default=32, show_default=True)
@click.option("--filter-size", type=POSITIVE, help="Pixels. [default: 3 digits, 7 CIFAR-10]")
@click.option("--hidden-dim", type=POSITIVE, help="Hidden units. [default: 100 digits, 500 CIFAR-10]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of weights and minibatches.")
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

    conv - relu - 2x2 max pool - affine - relu - affine - softmax. The folder gets config.json,
    metrics.jsonl, history.png, filters.png, confusion.png, a checkpoint an epoch (checkpoints/) and the best weights.
    Ctrl-C ends early and keeps the best weights; --resume goes on.
    """
    if backend is not None:
        use_backend(backend)
    given = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    out = _run_folder(out, resume, options["data"])
    config = _config(out, resume, options, given)
    data = load_data(config["data"])
    write_atomically(out / "config.json", json.dumps({**config, "gconv": __version__}, indent=2).encode() + b"\n")
    model, solver = _build(config, data, out)
    _announce(config, data, out)
    started = time.perf_counter()
    try:
        if resume:
            solver.resume()
        else:
            solver.train()
    except KeyboardInterrupt:
        _write_results(model, solver, data, out, started)
        click.echo(f"Interrupted; the best weights so far were kept. Go on with: gconv train --resume --out {out}")
        context.exit(130)
    _write_results(model, solver, data, out, started)


def _run_folder(out: Path | None, resume: bool, data: str) -> Path:
    if out is None:
        if resume:
            raise click.UsageError("--resume needs --out, the folder of the run to go on with")
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        return Path("runs") / f"{data if data in DEFAULTS else Path(data).resolve().name}-{stamp}"
    if not resume and (out / "config.json").exists():
        raise click.UsageError(
            f"--out {out} already holds a run; add --resume to go on with it, or name another folder"
        )
    return out


def _config(out: Path, resume: bool, options: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """Return the run's options: those of the run that is resumed, or the given ones and the defaults."""
    stored = out / "config.json"
    if not resume or not stored.exists():
        defaults = DEFAULTS.get(options["data"], DEFAULTS["cifar10"])
        return {**options, **{name: value for name, value in defaults.items() if options.get(name) is None}}
    try:
        config = json.loads(stored.read_text())
        for name in options:
            _ = config[name]
    except (ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"{stored} is damaged: {error!r}") from error
    config.pop("gconv", None)
    for name in sorted(given - {"epochs"}):
        if options[name] != config[name]:
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} must be {config[name]}, as the run in {out} has it; got {options[name]}")
    if "epochs" in given:
        config["epochs"] = options["epochs"]
    return dict(config)


def _build(config: dict[str, Any], data: DataSet, out: Path) -> tuple[ThreeLayerConvNet, Solver]:
    streams = np.random.default_rng(config["seed"]).spawn(2)
    model = ThreeLayerConvNet(
        input_dim=data.arrays["X_train"].shape[1:],
        num_filters=config["num_filters"],
        filter_size=config["filter_size"],
        hidden_dim=config["hidden_dim"],
        num_classes=len(data.class_names),
        weight_scale=config["weight_scale"],
        reg=config["reg"],
        rng=streams[0],
    )
    iterations = len(data.arrays["X_train"]) // config["batch_size"]
    solver = Solver(
        model,
        data.arrays,
        update_rule=config["update_rule"],
        optim_config={"learning_rate": config["learning_rate"]},
        batch_size=config["batch_size"],
        num_epochs=config["epochs"],
        checkpoint_name=str(out / "checkpoints" / "run"),
        print_every=100,
        # A curve needs more points than one or two epochs give.
        eval_every=iterations // 5 if iterations >= 500 else None,
        seed=streams[1],
        progress=True,
        callbacks=[_MetricsFile(out / "metrics.jsonl")],
    )
    return model, solver


class _MetricsFile:
    """Writes one JSON line an accuracy check, all of them anew, so that a resumed run has no line twice."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_eval(self, solver: Solver) -> None:
        lines, done = [], 0
        checks = zip(solver.eval_iterations, solver.train_acc_history, solver.val_acc_history, strict=True)
        for iteration, train_acc, val_acc in checks:
            loss = float(np.mean(solver.loss_history[done:iteration]))
            record = {"iteration": iteration, "epoch": iteration / solver.iterations_per_epoch, "loss": loss}
            lines.append(json.dumps({**record, "train_acc": train_acc, "val_acc": val_acc}) + "\n")
            done = iteration
        write_atomically(self._path, "".join(lines).encode())


def _announce(config: dict[str, Any], data: DataSet, out: Path) -> None:
    images = data.arrays["X_train"]
    size = " x ".join(map(str, images.shape[1:]))
    click.echo(
        f"Training on {len(images)} images of {size} ({config['data']}), {config['epochs']} epochs, "
        f"backend {get_backend().name}, results in {out}"
    )


def _write_results(model: ThreeLayerConvNet, solver: Solver, data: DataSet, out: Path, started: float) -> None:
    seconds = time.perf_counter() - started
    arrays = {f"best.{name}": get_backend(w).to_numpy(w) for name, w in model.params.items()}
    save_checkpoint(out / "best.safetensors", arrays, {"model": model.config, "epoch": solver.epoch})
    plot_history(solver, out / "history.png")
    plot_filters(model.params["W1"], out / "filters.png")
    click.echo(f"\nTime                 {seconds:.1f} s, {solver.epoch} epochs")
    report_test(model, data, out / "confusion.png")
    click.echo(f"Pictures             {out / 'history.png'}, {out / 'filters.png'}, {out / 'confusion.png'}")
    click.echo(f"Best weights         {out / 'best.safetensors'}  (gconv eval {out / 'best.safetensors'})")
