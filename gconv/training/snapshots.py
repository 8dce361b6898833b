"""A run as arrays and a JSON description, and back, to the bit.

The checksum in a checkpoint tells that the file is as it was written, not who wrote it: all of it is looked at before
any of it is taken over.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gconv._typing import Array
from gconv._updates import check_config
from gconv.backends import Backend, get_backend
from gconv.files import CheckpointError
from gconv.training.draws import Drawn, Minibatch
from gconv.training.model import check_config_of, check_state_arrays

__all__ = ["CHECKS", "Content", "Expected", "decode", "encode", "group", "plain"]

# One entry an accuracy check.
CHECKS = ("train_acc_history", "val_acc_history", "eval_iterations", "learning_rate_history")
HISTORIES = ("loss_history", *CHECKS)
CHANGES = 5  # of an image, as Augment.draw makes them
MT19937_WORDS = 624
FUNC = "Solver.save"
# Places in a generator's buffer: NumPy takes them as they are, and would read beside it.
POSITIONS = {"pos": MT19937_WORDS, "buffer_pos": 4}


@dataclass
class Content:
    """What a checkpoint holds of a run; the names are those of Run."""

    params: dict[str, Array]
    buffers: dict[str, Array]
    best_params: dict[str, Array]
    best_buffers: dict[str, Array]
    configs: dict[str, dict[str, Any]]
    histories: dict[str, list[Any]]
    iteration: int
    epoch: int
    epoch_start: int
    best_val_acc: float
    seconds: float
    step_rate: float | None
    due: tuple[tuple[str, str], ...]
    drawn: Drawn


@dataclass
class Expected:
    """What a checkpoint must be of, to be gone on from."""

    params: dict[str, Array]
    trained: list[str]
    buffers: dict[str, Array] | None  # None where a training may make others: queues grow, counters become means
    update_rule: str
    options: dict[str, Any]
    image_shape: tuple[int, ...]
    crop_and_cutout: int | None  # pixels, None without augmentation
    generator: Any  # a bit generator of the kind, or None
    due: frozenset[tuple[str, str]]
    iterations_per_epoch: int
    backend: Backend = field(default_factory=get_backend)


def group(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    """Return the arrays whose names begin with ``prefix`` and a point, under the rest of their names."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}.")}


def encode(content: Content, options: dict[str, Any], model: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return (arrays, description) of a run.

    Raises
    ------
    ValueError, TypeError
        If an array, a history or the model's ``config`` is not what a checkpoint can give back, by name.
    """
    check_config_of(FUNC, model)
    for history, values in content.histories.items():
        count = content.iteration if history == "loss_history" else len(content.histories["eval_iterations"])
        if len(values) != count:
            raise ValueError(f"{FUNC}: {history} must have {count} entries, as the run wrote it; got {len(values)}")
    arrays: dict[str, Array] = {}
    groups = {
        "param": content.params,
        "best": content.best_params,
        "buffer": content.buffers,
        "best_buffer": content.best_buffers,
    }
    for prefix, named in groups.items():
        check_state_arrays(FUNC, prefix, named, trained=prefix in ("param", "best"))
        for name, array in named.items():
            arrays[f"{prefix}.{name}"] = _host(array)
    scalars: dict[str, dict[str, Any]] = {}
    for name, config in content.configs.items():
        states = {key: value for key, value in config.items() if isinstance(getattr(value, "shape", None), tuple)}
        # A NumPy scalar is a number; the state of a parameter without axes is an array.
        states = {key: value for key, value in states.items() if not isinstance(value, np.generic)}
        arrays |= {f"optim.{name}.{key}": _host(value) for key, value in states.items()}
        scalars[name] = {key: plain(value) for key, value in config.items() if key not in states}
    for history, values in content.histories.items():
        arrays[history] = np.asarray(values, dtype=np.float64)
    drawn = content.drawn
    if drawn.order is not None and (drawn.ahead or content.iteration != content.epoch_start):
        arrays["order"] = drawn.order
    if drawn.ahead:
        arrays["drawn"] = np.stack([batch.indices for batch in drawn.ahead])
        changes = [batch.changes for batch in drawn.ahead if batch.changes is not None]
        if changes:
            arrays["drawn_changes"] = np.stack(changes)
    # Where nothing draws from the global generator it stands as it stood.
    kind, keys, position, has_gauss, gauss = drawn.global_state or np.random.get_state(legacy=True)
    arrays["numpy_random_keys"] = np.asarray(keys)
    description = {
        "epoch": content.epoch,
        "epoch_start": content.epoch_start,
        "iteration": content.iteration,
        "best_val_acc": content.best_val_acc,
        "seconds": content.seconds,
        "step_rate": content.step_rate,
        # A callback that only looks has nothing to catch up with.
        "due": [list(item) for item in content.due if not item[1].startswith("looking")],
        "optim_scalars": scalars,
        "numpy_random": [kind, int(position), int(has_gauss), float(gauss)],
        "generator": None if drawn.generator_state is None else plain(drawn.generator_state),
        "options": options,
        "model": model,
    }
    return arrays, description


def _host(array: Array) -> Array:
    """Return an array on the host, in the machine's byte order."""
    found = get_backend(array).to_numpy(array)
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def decode(
    path: str | os.PathLike[str], arrays: dict[str, Array], description: dict[str, Any], expected: Expected
) -> Content:
    """Return what a checkpoint holds, the arrays on the model's backend.

    Raises
    ------
    ValueError
        If the checkpoint at ``path`` belongs to another model or other options.
    CheckpointError
        If it holds what no Solver has written.
    """
    wanted = {name: (tuple(w.shape), str(w.dtype)) for name, w in expected.params.items()}
    found = {name: (w.shape, str(w.dtype)) for name, w in group(arrays, "param").items()}
    if wanted != found:
        raise ValueError(f"Solver.resume: {path} must hold the parameters {wanted}; got {found}")
    given = description.get("options")
    if not isinstance(given, dict):
        raise CheckpointError(f"Solver.resume: {path} must say of what options its run was; got {given!r:.80}")
    for key in dict.fromkeys((*expected.options, *({"groups"} & given.keys()))):
        value = expected.options.get(key)
        if given.get(key) != value:
            raise ValueError(f"Solver.resume: {path} must be of a run with {key}={value!r}; got {given.get(key)!r:.80}")
    try:
        _check_counts(description, arrays, expected)
        _check_weights(arrays, expected)
        _check_optim(arrays, description, expected)
        _check_draws(arrays, expected)
        _check_generators(arrays, description, expected)
        return _content(arrays, description, expected)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"Solver.resume: {path} can't be gone on from: {reason}") from error


def _content(arrays: dict[str, Array], description: dict[str, Any], expected: Expected) -> Content:
    def to_device(named: dict[str, Array]) -> dict[str, Array]:
        return {name: expected.backend.asarray(array) for name, array in named.items()}

    params, changes = group(arrays, "param"), arrays.get("drawn_changes")
    histories = {name: arrays[name].tolist() for name in HISTORIES}
    histories["eval_iterations"] = [int(iteration) for iteration in histories["eval_iterations"]]
    ahead = (
        Minibatch(indices, None if changes is None else changes[i]) for i, indices in enumerate(arrays.get("drawn", ()))
    )
    kind, position, has_gauss, gauss = description["numpy_random"]
    words = (kind, arrays["numpy_random_keys"], position, has_gauss, gauss)
    states = _states(arrays)
    return Content(
        params=to_device({name: params[name] for name in expected.params}),
        buffers=to_device(group(arrays, "buffer")),
        best_params=to_device(group(arrays, "best")),
        best_buffers=to_device(group(arrays, "best_buffer")),
        configs={
            name: {**description["optim_scalars"][name], **to_device(states.get(name, {}))} for name in expected.trained
        },
        histories=histories,
        iteration=description["iteration"],
        epoch=description["epoch"],
        epoch_start=_epoch_start(description, expected),
        best_val_acc=description["best_val_acc"],
        seconds=description["seconds"],
        step_rate=description.get("step_rate"),
        due=_due(description, expected),
        drawn=Drawn(words, description["generator"], arrays.get("order"), tuple(ahead)),
    )


def _states(arrays: dict[str, Array]) -> dict[str, dict[str, Array]]:
    """Return the update rule's arrays by parameter; a parameter's name may have points, a state's has none."""
    found: dict[str, dict[str, Array]] = {}
    for whole, array in group(arrays, "optim").items():
        name, _, key = whole.rpartition(".")
        found.setdefault(name, {})[key] = array
    return found


def _due(description: dict[str, Any], expected: Expected) -> tuple[tuple[str, str], ...]:
    """Return what is still to be done; older files say nothing, and may be of an epoch that was not counted yet."""
    if "due" not in description:
        into = description["iteration"] - _epoch_start(description, expected)
        return (("epoch", ""), ("check", "")) if into == expected.iterations_per_epoch else ()
    return tuple((event, who) for event, who in description["due"])


def _epoch_start(description: dict[str, Any], expected: Expected) -> int:
    start: int = description.get("epoch_start", description["epoch"] * expected.iterations_per_epoch)
    return start


def _number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, kind: Any = (int, float)) -> None:
    # An integer too large for a float compares all the same.
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}]; got {value!r:.80}")


def _check_counts(description: dict[str, Any], arrays: dict[str, Array], expected: Expected) -> None:
    for name in HISTORIES:
        if arrays[name].ndim != 1 or arrays[name].dtype != np.float64:
            raise ValueError(f"{name} must be a row of float64; got {arrays[name].dtype} {arrays[name].shape}")
    losses, checks = len(arrays["loss_history"]), len(arrays["eval_iterations"])
    _number("iteration", description["iteration"], losses, losses, int)
    _number("epoch", description["epoch"], 0, losses, int)
    start = _epoch_start(description, expected)
    _number("epoch_start", start, max(losses - expected.iterations_per_epoch, 0), losses, int)
    _number("best_val_acc", description["best_val_acc"], 0, 1)
    _number("seconds", description["seconds"], 0, 1e12)
    if description.get("step_rate") is not None:
        _number("step_rate", description["step_rate"])
    due = description.get("due", [])
    items = {tuple(item) for item in due} if isinstance(due, list) else set()
    if not isinstance(due, list) or len(due) > len(items) or not items <= expected.due:
        raise ValueError(f"due must be what a step is followed by; got {due!r:.80}")
    for name in HISTORIES[1:]:
        if len(arrays[name]) != checks:
            raise ValueError(f"{name} must have an entry for each of {checks} checks; got {len(arrays[name])}")
    at = arrays["eval_iterations"]
    if checks and not (np.all(at >= 0) and np.all(at <= losses) and np.all(at == np.floor(at))):
        raise ValueError(f"eval_iterations must be integers in [0, {losses}]")


def _check_weights(arrays: dict[str, Array], expected: Expected) -> None:
    params = {name: (w.shape, w.dtype) for name, w in group(arrays, "param").items()}
    best = {name: (w.shape, w.dtype) for name, w in group(arrays, "best").items()}
    if best and best != params:
        raise ValueError(f"the best weights must have the shapes of the last; got {best}")
    for prefix in ("param", "best", "buffer", "best_buffer"):
        check_state_arrays("the file", prefix, group(arrays, prefix), trained=prefix in ("param", "best"))
    if expected.buffers is None:
        return
    known = {name: (tuple(array.shape), array.dtype) for name, array in expected.buffers.items()}
    for prefix in ("buffer", "best_buffer"):
        found = {name: (array.shape, array.dtype) for name, array in group(arrays, prefix).items()}
        if found and found != known:
            shapes = {name: shape for name, (shape, _) in known.items()}
            raise ValueError(f"the model's buffers must have the shapes {shapes} and its dtypes; got {found}")


def _check_optim(arrays: dict[str, Array], description: dict[str, Any], expected: Expected) -> None:
    scalars, states = description["optim_scalars"], _states(arrays)
    if scalars.keys() != set(expected.trained):
        raise ValueError(f"optim_scalars must have a dictionary for each parameter; got {list(scalars)!r:.80}")
    if not states.keys() <= scalars.keys():
        raise ValueError(f"optim must have states of parameters; got {sorted(states)!r:.80}")
    for name, config in scalars.items():
        check_config(expected.update_rule, {**config, **states.get(name, {})})
        _number(f"t of {name}", config.get("t", 0), 0, 2**53, int)
        for key, array in states.get(name, {}).items():
            w = expected.params[name]
            if array.shape != tuple(w.shape) or array.dtype != w.dtype:
                raise ValueError(
                    f"optim.{name}.{key} must be {w.dtype} {tuple(w.shape)}, as the parameter is; "
                    f"got {array.dtype} {array.shape}"
                )


def _check_draws(arrays: dict[str, Array], expected: Expected) -> None:
    samples, batch_size = expected.options["num_train"], expected.options["batch_size"]
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
    if not 0 < drawn.shape[1] <= batch_size:
        raise ValueError(f"drawn must be minibatches of {batch_size}; got {drawn.shape}")
    if expected.crop_and_cutout is None:
        return
    if changes is None or changes.dtype != np.int32 or changes.shape != (*drawn.shape, CHANGES):
        raise ValueError(f"drawn_changes must be int32 {(*drawn.shape, CHANGES)}, those of the drawn samples")
    most = max(expected.image_shape[1:]) + expected.crop_and_cutout
    if changes.size and not (changes.min() >= -most and changes.max() <= most):
        raise ValueError(f"drawn_changes must be in [{-most}, {most}]")


def _check_generators(arrays: dict[str, Array], description: dict[str, Any], expected: Expected) -> None:
    keys = arrays["numpy_random_keys"]
    if keys.shape != (MT19937_WORDS,) or keys.dtype != np.uint32:
        raise ValueError(f"numpy_random_keys must be uint32 ({MT19937_WORDS},); got {keys.dtype} {keys.shape}")
    kind, position, has_gauss, gauss = description["numpy_random"]
    if kind != "MT19937":
        raise ValueError(f"numpy_random must be of MT19937; got {kind!r:.80}")
    _number("position in numpy_random", position, 0, MT19937_WORDS, int)
    _number("has_gauss in numpy_random", has_gauss, 0, 1, int)
    _number("gauss in numpy_random", gauss)
    if expected.generator is not None:
        state = description["generator"]
        _check_positions(state)
        type(expected.generator)().state = state


def _check_positions(state: Any) -> None:
    for key, value in state.items():
        if isinstance(value, dict):
            _check_positions(value)
        elif key in POSITIONS:
            _number(f"{key} in generator", value, 0, POSITIONS[key], int)


def plain(value: Any) -> Any:
    """Return ``value`` with NumPy scalars and arrays as JSON's numbers and lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value
