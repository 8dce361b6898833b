"""A training's files: one an epoch, the newest of them, and those of another run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gconv._typing import Array
from gconv.files import (
    CheckpointError,
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    remove_unfinished,
    warn_if_unwritten,
)
from gconv.training.augmentation import Augment
from gconv.training.batches import Batches
from gconv.training.hooks import Hooks, all_due
from gconv.training.model import buffers_of, model_backend
from gconv.training.optimizer import Optimizer
from gconv.training.run import Run
from gconv.training.settings import Settings
from gconv.training.snapshots import Content, Expected, decode, plain

__all__ = ["expected_of", "options_of", "read", "read_newest", "refuse_foreign", "save_epoch"]


def options_of(run: Run, batches: Batches, optimizer: Optimizer, hooks: Hooks, settings: Settings) -> dict[str, Any]:
    """Return all that a run depends on: a checkpoint of other values would go on as a different run."""
    rng = run.draws.rng
    return {
        **settings.options(),
        # Of a different generator's state, or none, nothing could be restored.
        "generator": None if rng is None else type(rng.bit_generator).__name__,
        "callbacks": hooks.changing,
        "optim_config": plain(optimizer.optim_config),
        "num_train": len(batches.X_train),
        **({"groups": plain(optimizer.chosen)} if optimizer.chosen else {}),
    }


def expected_of(run: Run, batches: Batches, optimizer: Optimizer, hooks: Hooks, augment: Augment | None) -> Expected:
    """Return what a checkpoint must be of, for this run to go on from it."""
    return Expected(
        params=run.model.params,
        trained=optimizer.trained,
        buffers=_buffers(run.model),
        update_rule=optimizer.update_rule,
        options=run.options,
        image_shape=tuple(batches.X_train.shape[1:]),
        crop_and_cutout=None if augment is None else augment.crop + augment.cutout,
        generator=None if run.draws.rng is None else run.draws.rng.bit_generator,
        due=all_due(hooks),
        iterations_per_epoch=run.iterations_per_epoch,
        backend=model_backend(run.model),
    )


def _buffers(model: Any) -> dict[str, Array] | None:
    """Return buffers as a training leaves them, by shape and dtype; None where that is not known before."""
    return {**buffers_of(model), **model.buffer_values()} if hasattr(model, "buffer_values") else None


def read(path: str | os.PathLike[str], expected: Expected) -> Content:
    """Return what a checkpoint holds, looked at in full.

    Raises
    ------
    CheckpointError
        If the file is damaged, or no checkpoint.
    ValueError
        If it is of another model or of other training options.
    """
    return decode(path, *load_checkpoint(path), expected)


def read_newest(name: str, expected: Expected, say: Callable[[str], None]) -> Content | None:
    """Return the newest whole checkpoint of that name, passing over damaged ones with a warning; None without any."""
    stem = Path(name)
    remove_unfinished(stem.parent, f"{stem.name}_epoch_")
    for candidate in list_checkpoints(name):
        try:
            content = read(candidate, expected)
        except CheckpointError as error:
            warnings.warn(f"Solver.resume: passing over a checkpoint: {error}", RuntimeWarning, stacklevel=3)
            continue
        say(f"Going on from {candidate}")
        return content
    say(f"No checkpoint named {name} yet; starting at the beginning")
    return None


def refuse_foreign(name: str) -> None:
    """Raise FileExistsError if there are checkpoints of that name, of another training."""
    for path in list_checkpoints(name):
        try:
            load_checkpoint(path)
        except CheckpointError:
            continue  # nothing that a run could go on from
        raise FileExistsError(
            f"Solver.train: checkpoint_name must be new for a new run; got {name!r}, and there "
            f"is {path}. Go on with resume(), take another name, or delete the files"
        )


def save_epoch(run: Run, name: str) -> None:
    """Write the checkpoint of the epoch that has ended; one that can't be written is a warning."""
    path = checkpoint_path(name, run.epoch)
    with warn_if_unwritten(f"the checkpoint {path}"):
        run.save(path)
