"""Whether what a checkpoint holds can be a Solver's state: looked at in full before anything is taken over.

The checksum in a checkpoint tells that the file is as it was written, not who wrote it.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from gconv._typing import Array
from gconv.files import CheckpointError
from gconv.optim import check_config

if TYPE_CHECKING:
    from gconv.solver import Solver

__all__ = ["HISTORIES", "check_state", "group"]

HISTORIES = ("loss_history", "train_acc_history", "val_acc_history", "eval_iterations", "learning_rate_history")
CHANGES = 5  # of an image, as Augment.draw makes them
MT19937_WORDS = 624
# Places in a generator's buffer: NumPy takes them as they are, and would read beside it.
POSITIONS = {"pos": MT19937_WORDS, "buffer_pos": 4}


def group(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    """Return the arrays whose names begin with ``prefix`` and a point, under the rest of their names."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}.")}


def check_state(
    solver: Solver, path: str | os.PathLike[str], arrays: dict[str, Array], description: dict[str, Any]
) -> None:
    """Raise CheckpointError, which names the file and what is wrong in it, unless all of it can be taken over.

    The parameters' names, shapes and dtypes have been compared with the model's.
    """
    try:
        _check_counts(description, arrays)
        _check_weights(solver, arrays)
        _check_optim(solver, arrays, description)
        _check_draws(solver, arrays)
        _check_generators(solver, arrays, description)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"Solver.resume: {path} can't be gone on from: {reason}") from error


def _number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, kind: Any = (int, float)) -> None:
    # An integer too large for a float compares all the same.
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}]; got {value!r:.80}")


def _check_counts(description: dict[str, Any], arrays: dict[str, Array]) -> None:
    for name in HISTORIES:
        if arrays[name].ndim != 1 or arrays[name].dtype != np.float64:
            raise ValueError(f"{name} must be a row of float64; got {arrays[name].dtype} {arrays[name].shape}")
    losses, checks = len(arrays["loss_history"]), len(arrays["eval_iterations"])
    _number("iteration", description["iteration"], losses, losses, int)
    _number("epoch", description["epoch"], 0, losses, int)
    _number("best_val_acc", description["best_val_acc"], 0, 1)
    _number("seconds", description["seconds"], 0, 1e12)
    for name in HISTORIES[1:]:
        if len(arrays[name]) != checks:
            raise ValueError(f"{name} must have an entry for each of {checks} checks; got {len(arrays[name])}")
    at = arrays["eval_iterations"]
    if checks and not (np.all(at >= 0) and np.all(at <= losses) and np.all(at == np.floor(at))):
        raise ValueError(f"eval_iterations must be integers in [0, {losses}]")


def _check_weights(solver: Solver, arrays: dict[str, Array]) -> None:
    params = {name: (w.shape, w.dtype) for name, w in group(arrays, "param").items()}
    best = {name: (w.shape, w.dtype) for name, w in group(arrays, "best").items()}
    if best and best != params:
        raise ValueError(f"the best weights must have the shapes of the last; got {best}")
    for prefix in ("param", "best", "buffer", "best_buffer"):
        for name, array in group(arrays, prefix).items():
            if array.dtype not in (np.float32, np.float64):
                raise ValueError(f"{prefix}.{name} must be float32 or float64; got {array.dtype}")
            if np.isnan(array).any():
                raise ValueError(f"{prefix}.{name} must be numbers; there are NaN among them")
    known: dict[str, Array] = getattr(solver.model, "buffer_values", dict)()
    shapes = {name: tuple(array.shape) for name, array in known.items()}
    for prefix in ("buffer", "best_buffer") if known else ():
        found = {name: array.shape for name, array in group(arrays, prefix).items()}
        if found and found != shapes:
            raise ValueError(f"the model's buffers must have the shapes {shapes}; got {found}")


def _check_optim(solver: Solver, arrays: dict[str, Array], description: dict[str, Any]) -> None:
    scalars = description["optim_scalars"]
    if scalars.keys() != solver.model.params.keys():
        raise ValueError(f"optim_scalars must have a dictionary for each parameter; got {list(scalars)!r:.80}")
    for name, config in scalars.items():
        states = group(arrays, f"optim.{name}")
        check_config(solver.update_rule, {**config, **states})
        _number(f"t of {name}", config.get("t", 0), 0, description["iteration"], int)
        for key, array in states.items():
            w = solver.model.params[name]
            if array.shape != tuple(w.shape) or array.dtype != w.dtype:
                raise ValueError(
                    f"optim.{name}.{key} must be {w.dtype} {tuple(w.shape)}, as the parameter is; "
                    f"got {array.dtype} {array.shape}"
                )


def _check_draws(solver: Solver, arrays: dict[str, Array]) -> None:
    samples = len(solver.X_train)
    for name, ndim in (("order", 1), ("drawn", 2)):
        if name in arrays:
            indices = arrays[name]
            if indices.ndim != ndim or indices.dtype.kind not in "iu":
                raise ValueError(f"{name} must be integers with {ndim} axes; got {indices.dtype} {indices.shape}")
            if indices.size and not (indices.min() >= 0 and indices.max() < samples):
                raise ValueError(f"{name} must name training samples, of which there are {samples}")
    if "order" in arrays and len(arrays["order"]) != samples:
        raise ValueError(f"order must name every one of {samples} samples; got {len(arrays['order'])}")
    if "drawn" not in arrays:
        return
    drawn, changes = arrays["drawn"], arrays.get("drawn_changes")
    if not 0 < drawn.shape[1] <= solver.batch_size:
        raise ValueError(f"drawn must be minibatches of {solver.batch_size}; got {drawn.shape}")
    if solver.augment is None:
        return
    if changes is None or changes.dtype != np.int32 or changes.shape != (*drawn.shape, CHANGES):
        raise ValueError(f"drawn_changes must be int32 {(*drawn.shape, CHANGES)}, those of the drawn samples")
    most = max(solver.X_train.shape[2:]) + solver.augment.crop + solver.augment.cutout
    if changes.size and not (changes.min() >= -most and changes.max() <= most):
        raise ValueError(f"drawn_changes must be in [{-most}, {most}]")


def _check_generators(solver: Solver, arrays: dict[str, Array], description: dict[str, Any]) -> None:
    keys = arrays["numpy_random_keys"]
    if keys.shape != (MT19937_WORDS,) or keys.dtype != np.uint32:
        raise ValueError(f"numpy_random_keys must be uint32 ({MT19937_WORDS},); got {keys.dtype} {keys.shape}")
    kind, position, has_gauss, gauss = description["numpy_random"]
    if kind != "MT19937":
        raise ValueError(f"numpy_random must be of MT19937; got {kind!r:.80}")
    _number("position in numpy_random", position, 0, MT19937_WORDS, int)
    _number("has_gauss in numpy_random", has_gauss, 0, 1, int)
    _number("gauss in numpy_random", gauss)
    if solver.rng is not None:
        state = description["generator"]
        _check_positions(state)
        type(solver.rng.bit_generator)().state = state


def _check_positions(state: Any) -> None:
    for key, value in state.items():
        if isinstance(value, dict):
            _check_positions(value)
        elif key in POSITIONS:
            _number(f"{key} in generator", value, 0, POSITIONS[key], int)
