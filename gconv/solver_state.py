"""A Solver's whole state as arrays and a JSON description, and back, to the bit."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gconv._typing import Array
from gconv.backends import get_backend
from gconv.files import CheckpointError, list_checkpoints, load_checkpoint, locked, remove_unfinished
from gconv.solver_draws import Minibatch
from gconv.solver_state_checks import HISTORIES, check_state, group
from gconv.solver_steps import model_backend

if TYPE_CHECKING:
    from gconv.solver import Solver

__all__ = ["alone", "capture", "refuse_foreign_checkpoints", "restore", "resume_newest"]

# What a run depends on: a checkpoint of other values would go on as a different run.
OPTIONS = ("update_rule", "lr_decay", "batch_size", "num_train_samples", "num_val_samples", "sampling", "eval_every")


def capture(solver: Solver) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return (arrays, description) of everything that the rest of the training depends on."""
    arrays: dict[str, Array] = {}
    params, buffers = solver.last_state()
    groups = {
        "param": params,
        "best": solver.best_params,
        "buffer": buffers,
        "best_buffer": solver.best_buffers,
    }
    for prefix, named in groups.items():
        for name, array in named.items():
            arrays[f"{prefix}.{name}"] = get_backend(array).to_numpy(array)
    scalars: dict[str, dict[str, Any]] = {}
    for name, config in solver.optim_configs.items():
        scalars[name] = {key: value for key, value in config.items() if not hasattr(value, "shape") or not value.shape}
        for key in config.keys() - scalars[name].keys():
            arrays[f"optim.{name}.{key}"] = get_backend(config[key]).to_numpy(config[key])
        scalars[name] = {key: value.item() if hasattr(value, "item") else value for key, value in scalars[name].items()}
    for history in HISTORIES:
        arrays[history] = np.asarray(getattr(solver, history), dtype=np.float64)
    _capture_draws(solver, arrays)
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    arrays["numpy_random_keys"] = np.asarray(keys)
    description = {
        "epoch": solver.epoch,
        "iteration": solver.iteration,
        "best_val_acc": solver.best_val_acc,
        "seconds": solver.seconds,
        "optim_scalars": scalars,
        "numpy_random": [kind, int(position), int(has_gauss), float(gauss)],
        "generator": None if solver.rng is None else _plain(solver.rng.bit_generator.state),
        "options": _options(solver),
        "model": getattr(solver.model, "config", None),
    }
    return arrays, description


def restore(
    solver: Solver, path: str | os.PathLike[str], arrays: dict[str, Array], description: dict[str, Any]
) -> None:
    """Put a captured state into a Solver of the same model and options.

    Raises
    ------
    ValueError
        If the checkpoint at ``path`` belongs to another model or other options.
    CheckpointError
        If it holds what no Solver has written. In both cases nothing has been changed.
    """
    params, names = group(arrays, "param"), list(solver.model.params)
    expected = {name: (w.shape, str(w.dtype)) for name, w in solver.model.params.items()}
    found = {name: (w.shape, str(w.dtype)) for name, w in params.items()}
    if expected != found:
        raise ValueError(f"Solver.resume: {path} must hold the parameters {expected}; got {found}")
    given = description.get("options")
    if not isinstance(given, dict):
        raise CheckpointError(f"Solver.resume: {path} must say of what options its run was; got {given!r:.80}")
    for key, value in _options(solver).items():
        if given.get(key) != value:
            raise ValueError(f"Solver.resume: {path} must be of a run with {key}={value!r}; got {given.get(key)!r:.80}")
    check_state(solver, path, arrays, description)
    backend = model_backend(solver.model)

    def to_device(named: dict[str, Array]) -> dict[str, Array]:
        return {name: backend.asarray(array) for name, array in named.items()}

    solver._reset()
    solver.model.params.update(to_device({name: params[name] for name in names}))
    solver.best_params = to_device(group(arrays, "best"))
    solver.best_buffers = to_device(group(arrays, "best_buffer"))
    if hasattr(solver.model, "buffers"):
        solver.model.buffers = to_device(group(arrays, "buffer"))
    solver.optim_configs = {
        name: {**description["optim_scalars"][name], **to_device(group(arrays, f"optim.{name}"))} for name in names
    }
    for history in HISTORIES:
        setattr(solver, history, arrays[history].tolist())
    solver.eval_iterations = [int(iteration) for iteration in solver.eval_iterations]
    solver.epoch, solver.iteration = description["epoch"], description["iteration"]
    solver.best_val_acc = description["best_val_acc"]
    solver._seconds = description["seconds"]
    solver.draws.order = arrays.get("order")
    changes = arrays.get("drawn_changes")
    solver.draws.ahead = [
        Minibatch(indices, None if changes is None else changes[i]) for i, indices in enumerate(arrays.get("drawn", ()))
    ]
    kind, position, has_gauss, gauss = description["numpy_random"]
    np.random.set_state((kind, arrays["numpy_random_keys"], position, has_gauss, gauss))
    if solver.rng is not None:
        solver.rng.bit_generator.state = description["generator"]


def resume_newest(solver: Solver) -> None:
    """Put the newest whole checkpoint of the Solver's name into it, passing over damaged ones with a warning."""
    if solver.checkpoint_name is None:
        raise ValueError("Solver.resume: path must be given where the Solver has no checkpoint_name; got None")
    stem = Path(solver.checkpoint_name)
    remove_unfinished(stem.parent, f"{stem.name}_epoch_")
    for candidate in list_checkpoints(solver.checkpoint_name):
        try:
            restore(solver, candidate, *load_checkpoint(candidate))
        except CheckpointError as error:
            warnings.warn(f"Solver.resume: passing over a checkpoint: {error}", RuntimeWarning, stacklevel=3)
            continue
        solver._say(f"Going on from {candidate}")
        return
    solver._say(f"No checkpoint named {solver.checkpoint_name} yet; starting at the beginning")


def alone(solver: Solver) -> AbstractContextManager[None]:
    """Keep every other training of the Solver's ``checkpoint_name`` away, in this process and others."""
    name = solver.checkpoint_name
    if name is None:
        return nullcontext()
    stem = Path(name)
    return locked(
        stem.parent / f".{stem.name}.lock", f"Solver: checkpoint_name {name!r} must have one training at a time"
    )


def refuse_foreign_checkpoints(name: str) -> None:
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


def _capture_draws(solver: Solver, arrays: dict[str, Array]) -> None:
    """Keep what was drawn and is not used yet: the rest of an epoch's permutation, minibatches drawn ahead."""
    drawn = solver.drawn_ahead()
    if solver.draws.order is not None and (drawn or solver.iteration % solver.iterations_per_epoch):
        arrays["order"] = solver.draws.order
    if drawn:
        arrays["drawn"] = np.stack([batch.indices for batch in drawn])
        changes = [batch.changes for batch in drawn if batch.changes is not None]
        if changes:
            arrays["drawn_changes"] = np.stack(changes)


def _options(solver: Solver) -> dict[str, Any]:
    options = {key: getattr(solver, key) for key in OPTIONS}
    # Of a different generator's state, or none, nothing could be restored.
    options["generator"] = None if solver.rng is None else type(solver.rng.bit_generator).__name__
    options["augment"] = None if solver.augment is None else repr(solver.augment)
    options["callbacks"] = solver._hooks.changing
    return {**options, "optim_config": _plain(solver.optim_config), "num_train": len(solver.X_train)}


def _plain(value: Any) -> Any:
    """Return ``value`` with NumPy scalars and arrays as JSON's numbers and lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value
