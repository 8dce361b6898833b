"""A Solver's whole state as arrays and a JSON description, and back, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gconv._typing import Array
from gconv.backends import get_backend
from gconv.solver_steps import model_backend

if TYPE_CHECKING:
    from gconv.solver import Solver

__all__ = ["capture", "restore"]

# What a run depends on: a checkpoint of other values would go on as a different run.
OPTIONS = ("update_rule", "lr_decay", "batch_size", "num_train_samples", "num_val_samples", "sampling", "eval_every")
HISTORIES = ("loss_history", "train_acc_history", "val_acc_history", "eval_iterations")


def capture(solver: Solver) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return (arrays, description) of everything that the rest of the training depends on."""
    arrays: dict[str, Array] = {}
    groups = {
        "param": solver.model.params,
        "best": solver.best_params,
        "buffer": getattr(solver.model, "buffers", {}),
        "best_buffer": solver.best_buffers,
    }
    for prefix, group in groups.items():
        for name, array in group.items():
            arrays[f"{prefix}.{name}"] = get_backend(array).to_numpy(array)
    scalars: dict[str, dict[str, Any]] = {}
    for name, config in solver.optim_configs.items():
        scalars[name] = {key: value for key, value in config.items() if not hasattr(value, "shape") or not value.shape}
        for key in config.keys() - scalars[name].keys():
            arrays[f"optim.{name}.{key}"] = get_backend(config[key]).to_numpy(config[key])
        scalars[name] = {key: value.item() if hasattr(value, "item") else value for key, value in scalars[name].items()}
    for history in HISTORIES:
        arrays[history] = np.asarray(getattr(solver, history), dtype=np.float64)
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    arrays["numpy_random_keys"] = np.asarray(keys)
    description = {
        "epoch": solver.epoch,
        "iteration": solver.iteration,
        "best_val_acc": solver.best_val_acc,
        "optim_scalars": scalars,
        "numpy_random": [kind, int(position), int(has_gauss), float(gauss)],
        "generator": None if solver.rng is None else _plain(solver.rng.bit_generator.state),
        "options": _options(solver),
        "model": getattr(solver.model, "config", None),
    }
    return arrays, description


def restore(solver: Solver, path: str | Path, arrays: dict[str, Array], description: dict[str, Any]) -> None:
    """Put a captured state into a Solver of the same model and options.

    Raises
    ------
    ValueError
        If the checkpoint at ``path`` belongs to another model or other options; nothing has been changed then.
    """
    params, names = _group(arrays, "param"), list(solver.model.params)
    expected = {name: (w.shape, str(w.dtype)) for name, w in solver.model.params.items()}
    found = {name: (w.shape, str(w.dtype)) for name, w in params.items()}
    if expected != found:
        raise ValueError(f"Solver.resume: {path} must hold the parameters {expected}; got {found}")
    wanted, given = _options(solver), description.get("options", {})
    for key, value in wanted.items():
        if given.get(key) != value:
            raise ValueError(f"Solver.resume: {path} must be of a run with {key}={value!r}; got {given.get(key)!r}")
    backend = model_backend(solver.model)

    def to_device(group: dict[str, Array]) -> dict[str, Array]:
        return {name: backend.asarray(array) for name, array in group.items()}

    solver._reset()
    solver.model.params.update(to_device({name: params[name] for name in names}))
    solver.best_params = to_device(_group(arrays, "best"))
    solver.best_buffers = to_device(_group(arrays, "best_buffer"))
    if hasattr(solver.model, "buffers"):
        solver.model.buffers = to_device(_group(arrays, "buffer"))
    solver.optim_configs = {
        name: {**description["optim_scalars"][name], **to_device(_group(arrays, f"optim.{name}"))} for name in names
    }
    for history in HISTORIES:
        setattr(solver, history, arrays[history].tolist())
    solver.eval_iterations = [int(iteration) for iteration in solver.eval_iterations]
    solver.epoch, solver.iteration = description["epoch"], description["iteration"]
    solver.best_val_acc = description["best_val_acc"]
    kind, position, has_gauss, gauss = description["numpy_random"]
    np.random.set_state((kind, arrays["numpy_random_keys"], position, has_gauss, gauss))
    if solver.rng is not None:
        solver.rng.bit_generator.state = description["generator"]


def _options(solver: Solver) -> dict[str, Any]:
    options = {key: getattr(solver, key) for key in OPTIONS}
    # Of a different generator's state, or none, nothing could be restored.
    options["generator"] = None if solver.rng is None else type(solver.rng.bit_generator).__name__
    return {**options, "optim_config": _plain(solver.optim_config), "num_train": len(solver.X_train)}


def _group(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}.")}


def _plain(value: Any) -> Any:
    """Return ``value`` with NumPy scalars and arrays as JSON's numbers and lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value
