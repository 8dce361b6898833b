"""The options of a training, for ``gconv train`` and ``gconv sweep``, and the Solver that they describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from gconv.backends.update_rules import UPDATE_RULES
from gconv.classifiers import ThreeLayerConvNet
from gconv.cli.source import DataSet
from gconv.cli.types import Number, flag
from gconv.solver import Solver
from gconv.training.augmentation import Augment
from gconv.training.callbacks import (
    ClipGradients,
    CosineSchedule,
    EarlyStopping,
    JSONLinesLog,
    OneCycleSchedule,
    StepSchedule,
    TimeLimit,
    WarmUp,
)

__all__ = [
    "DEFAULTS",
    "OPTIONS",
    "build",
    "check_options",
    "check_together",
    "data_option",
    "training_options",
    "with_defaults",
]

# The digits are 8x8 pixels and few: small filters, more epochs.
DEFAULTS = {
    "digits": {"epochs": 40, "filter_size": 3, "hidden_dim": 100, "weight_scale": 1e-2},
    "cifar10": {"epochs": 5, "filter_size": 7, "hidden_dim": 500, "weight_scale": 1e-3},
}
SCHEDULES = ("constant", "step", "cosine", "one-cycle")
POSITIVE = click.IntRange(min=1)
FROM_ZERO, ABOVE_ZERO = Number(), Number(above=True)


class Augmentation(click.ParamType):
    """``flip``, ``crop=4``, ``cutout=8``, with commas between."""

    name = "flip,crop=N,cutout=N"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        """Check the text, and keep it."""
        try:
            augmentation(value)
        except (ValueError, TypeError) as error:
            self.fail(f"must be of flip, crop=N and cutout=N with commas between; got {value!r} ({error})")
        return str(value)


def augmentation(text: str) -> Augment:
    """Return what ``--augment`` describes.

    >>> augmentation("flip,crop=4")
    Augment(flip=True, crop=4, cutout=0)
    """
    changes: dict[str, Any] = {"flip": False}
    for word in text.split(","):
        name, _, number = word.strip().partition("=")
        if name not in ("flip", "crop", "cutout") or (name == "flip") == bool(number):
            raise ValueError(f"{word!r} is none of them")
        if changes.get(name):
            raise ValueError(f"{name} stands there twice")
        changes[name] = True if name == "flip" else int(number)
    return Augment(**changes)


# Name, and what click is told of it: of these `gconv sweep` takes several values each.
OPTIONS: dict[str, dict[str, Any]] = {
    "epochs": {"type": POSITIVE, "help": "Passes over the training images. [default: 40 digits, 5 CIFAR-10]"},
    "batch_size": {"type": POSITIVE, "default": 50, "help": "Images a step."},
    "update_rule": {"type": click.Choice(list(UPDATE_RULES)), "default": "adam"},
    "learning_rate": {"type": ABOVE_ZERO, "default": 1e-3},
    "reg": {"type": FROM_ZERO, "default": 1e-3, "help": "L2 strength."},
    "num_filters": {"type": POSITIVE, "default": 32},
    "filter_size": {"type": POSITIVE, "help": "Pixels. [default: 3 digits, 7 CIFAR-10]"},
    "hidden_dim": {"type": POSITIVE, "help": "Hidden units. [default: 100 digits, 500 CIFAR-10]"},
    "schedule": {"type": click.Choice(SCHEDULES), "default": "constant", "help": "Of the learning rate."},
    "warm_up": {"type": click.IntRange(min=0), "default": 0, "help": "Iterations in which the rate rises."},
    "clip_norm": {"type": ABOVE_ZERO, "help": "Largest norm of the gradients."},
    "augment": {
        "type": Augmentation(),
        "metavar": "flip,crop=N,cutout=N",
        "help": "Random changes of the training images.",
    },
    "patience": {"type": POSITIVE, "help": "Stop after so many accuracy checks without a better one."},
    "time_limit": {"type": FROM_ZERO, "help": "Stop after so many seconds."},
    "seed": {"type": click.IntRange(min=0), "default": 0, "help": "Of weights and minibatches."},
}
Command = TypeVar("Command", bound=Callable[..., Any])


def data_option(command: Command) -> Command:
    """Add ``--data``."""
    return click.option(
        "--data",
        default="digits",
        show_default=True,
        metavar="digits|cifar10|DIR",
        help="The digits of scikit-learn, CIFAR-10 (found or downloaded), or CIFAR-10 in a folder.",
    )(command)


def training_options(command: Command) -> Command:
    """Add the options of a training to a command."""
    for name, settings in reversed(OPTIONS.items()):
        command = click.option(flag(name), show_default="default" in settings, **settings)(command)
    return data_option(command)


def with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the data set's defaults for those that are None."""
    defaults = DEFAULTS.get(options["data"], DEFAULTS["cifar10"])
    return {**options, **{name: value for name, value in defaults.items() if options.get(name) is None}}


def check_options(config: dict[str, Any], file: Path, names: Sequence[str] = tuple(OPTIONS)) -> None:
    """Raise UsageError, which names the file, for a value that a command line could not have given."""
    for name, settings in ((name, OPTIONS[name]) for name in names):
        if config[name] is None and "default" not in settings:
            continue
        try:
            found = settings["type"].convert(config[name], None, None)
        except (click.UsageError, TypeError, ValueError) as error:
            text = f"{file} is damaged: {flag(name)[2:]} is {config[name]!r:.80}: {error}"
            raise click.UsageError(text) from error
        if found != config[name] or isinstance(config[name], bool):
            raise click.UsageError(f"{file} is damaged: {flag(name)[2:]} must be {found!r}; got {config[name]!r:.80}")


def check_together(config: dict[str, Any], data: DataSet) -> None:
    """Raise UsageError for options that make no sense with each other, or with the data."""
    images = data.arrays["X_train"]
    size = min(images.shape[2:])
    if config["filter_size"] > size:
        raise click.UsageError(f"--filter-size must be at most {size}, the images' size; got {config['filter_size']}")
    if config["augment"]:
        changes = augmentation(config["augment"])
        for name in ("crop", "cutout"):
            if getattr(changes, name) >= size:
                text = f"--augment must have {name} below {size}, the images' size; got {getattr(changes, name)}"
                raise click.UsageError(text)
    total = max(len(images) // config["batch_size"], 1) * config["epochs"]
    if config["warm_up"] > total:
        raise click.UsageError(f"--warm-up must be at most {total}, the iterations there are; got {config['warm_up']}")


def build(
    config: dict[str, Any], data: DataSet, log: Path, more_callbacks: Sequence[Any] = (), **solver_options: Any
) -> Solver:
    """Return the Solver, with its model, of complete options."""
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
    iterations = max(len(data.arrays["X_train"]) // config["batch_size"], 1)
    options = {
        "print_every": 100,
        # A curve needs more points than one or two epochs give.
        "eval_every": iterations // 5 if iterations >= 500 else None,
        "progress": True,
        **solver_options,
    }
    return Solver(
        model,
        data.arrays,
        update_rule=config["update_rule"],
        optim_config={"learning_rate": config["learning_rate"]},
        batch_size=config["batch_size"],
        num_epochs=config["epochs"],
        augment=augmentation(config["augment"]) if config["augment"] else None,
        seed=streams[1],
        callbacks=[*_callbacks(config, log, iterations * config["epochs"]), *more_callbacks],
        **options,
    )


def _callbacks(config: dict[str, Any], log: Path, total: int) -> list[Any]:
    schedules: dict[str, Callable[[], Any]] = {
        "constant": lambda: None,
        "step": lambda: StepSchedule(max(total // 3, 1)),
        "cosine": CosineSchedule,
        "one-cycle": OneCycleSchedule,
    }
    schedule = schedules[config["schedule"]]()
    if config["warm_up"]:
        schedule = WarmUp(config["warm_up"], schedule)
    return [
        *([schedule] if schedule is not None else ()),
        *([ClipGradients(config["clip_norm"])] if config["clip_norm"] else ()),
        JSONLinesLog(log),
        *([EarlyStopping(config["patience"])] if config["patience"] else ()),
        *([TimeLimit(config["time_limit"])] if config["time_limit"] is not None else ()),
    ]
