"""What a training needs of a model, and the errors where a model does not have it.

A model has ``params``, a dictionary of arrays, and ``loss(X, y=None)``: scores (N, C) without labels, (loss, gradients)
with them. It may have ``buffers``, a dictionary of arrays that are state and no parameters, ``config``, a description
for checkpoints, ``loss_options``, a dictionary whose ``ignore_label`` accuracies don't count, and ``capturable``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from gconv._arguments import with_axes
from gconv._checks import check_number
from gconv._typing import Array
from gconv.backends import Backend, array_kind, get_backend

__all__ = [
    "FUNC",
    "buffers_of",
    "check_config_of",
    "check_gradients",
    "check_loss",
    "check_model",
    "check_ready",
    "check_scores",
    "check_state_arrays",
    "clear_buffers",
    "draws_nothing",
    "ignored_label",
    "model_backend",
    "write_buffers",
]

FUNC = "Solver.train"


def model_backend(model: Any) -> Backend:
    """Return the backend of a model's parameters; the default one for a model without."""
    return get_backend(*(getattr(model, "params", None) or {}).values())


def buffers_of(model: Any) -> dict[str, Array]:
    """Return the model's buffers, in a dictionary of their own; a model without has none."""
    found = getattr(model, "buffers", None)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise TypeError(f"{FUNC}: model.buffers must be a dictionary of arrays; got {type(found).__name__}")
    return {name: with_axes(array) for name, array in found.items()}


def write_buffers(model: Any, buffers: dict[str, Array]) -> None:
    """Make these the model's buffers.

    Its dictionary is changed in place, as ``params`` is, so that nobody's reference goes stale; one that a property
    makes anew each time is set.
    """
    there = getattr(model, "buffers", None)
    if isinstance(there, dict) and model.buffers is there:
        for name in there.keys() - buffers.keys():
            del there[name]
        there.update(buffers)
    elif there is not None or buffers:
        model.buffers = dict(buffers)


def clear_buffers(model: Any, keep_attribute: bool = True) -> None:
    """Let the model have no buffers again, as one that makes them in its first step."""
    there = getattr(model, "buffers", None)
    if not keep_attribute and "buffers" in vars(model):
        del model.buffers
    elif there is not None:
        try:
            model.buffers = None
        except (AttributeError, TypeError):  # a property that does not take it
            write_buffers(model, {})


def draws_nothing(model: Any) -> bool:
    """Return whether a step draws no random numbers, by a ``capturable`` written for the ``loss`` at hand."""
    if not getattr(model, "capturable", False):
        return False
    classes = type(model).__mro__
    says = next((i for i, cls in enumerate(classes) if "capturable" in vars(cls)), len(classes))
    return "capturable" in vars(model) or not any("loss" in vars(owner) for owner in (model, *classes[:says]))


def ignored_label(model: Any) -> int | None:
    """Return the label whose samples the model's loss ignores, None where there is none."""
    options = getattr(model, "loss_options", None)
    return options.get("ignore_label") if isinstance(options, dict) else None


def check_model(model: Any) -> None:
    """Raise an error unless the model is what a Solver can be made for."""
    if not isinstance(getattr(model, "params", None), dict) or not callable(getattr(model, "loss", None)):
        raise TypeError(f"Solver: model must have a dictionary params and a method loss; got {type(model).__name__}")


def check_config_of(func: str, config: Any) -> None:
    """Raise TypeError unless a model's ``config`` can stand in a checkpoint."""
    try:
        json.dumps(config)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{func}: model.config must be what JSON can hold, or not be there; got {error}") from error


def check_state_arrays(func: str, what: str, arrays: dict[str, Array], trained: bool) -> None:
    """Raise an error, which names it, for an array that could not be stored, or not be trained.

    The one rule for models before a training and for checkpoints before they are taken over. Parameters are float32 or
    float64 and have no NaN; buffers are any real numbers or truth values.
    """
    for name, array in arrays.items():
        if not isinstance(name, str):
            raise TypeError(f"{func}: {what} must have strings for names; got {name!r:.80}")
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"{func}: {what} must have names that UTF-8 can encode; got {name!r:.80}")
        label = f"{what}[{name!r}]"
        if array_kind(array) is None and not isinstance(array, np.generic):
            raise TypeError(f"{func}: {label} must be a NumPy or CuPy array; got {type(array).__name__}")
        kind, size = array.dtype.kind, array.dtype.itemsize
        if trained and (kind != "f" or size not in (4, 8)):
            raise TypeError(f"{func}: {label} must be float32 or float64; got {array.dtype}")
        if kind not in "biuf" or size > 8:
            raise TypeError(f"{func}: {label} must be real numbers of at most 64 bits, or bool; got {array.dtype}")
        if trained and bool((array != array).any()):
            raise ValueError(f"{func}: {label} must be numbers; there are NaN among them")


def _adopt_native_arrays(model: Any) -> None:
    """Turn arrays of the other byte order, as files may hold them, and NumPy scalars into the machine's arrays."""
    for name, array in model.params.items():
        if not array.dtype.isnative or isinstance(array, np.generic):
            model.params[name] = get_backend(with_axes(array)).asarray(with_axes(array))
    buffers = buffers_of(model)
    foreign = {name: get_backend(a).asarray(a) for name, a in buffers.items() if not a.dtype.isnative}
    if foreign:
        write_buffers(model, {**buffers, **foreign})


def check_ready(model: Any, names: Iterable[str]) -> None:
    """Raise an error unless a training of the parameters ``names`` can begin: all arrays, and that buffers can be set.

    Raises
    ------
    TypeError
        For names that are no strings, and what is no array of real numbers.
    ValueError
        For NaN in a parameter, other parameters than the Solver was made for, buffers that can't be changed.
    """
    if model.params is not model.params or not model.params:
        raise ValueError(f"{FUNC}: model.params must be one dictionary, and not empty; got {model.params!r:.80}")
    check_state_arrays(FUNC, "model.params", model.params, trained=True)
    if set(model.params) != set(names):
        raise ValueError(f"{FUNC}: model.params must have the names {sorted(names)}; got {sorted(model.params)}")
    check_state_arrays(FUNC, "model.buffers", buffers_of(model), trained=False)
    _adopt_native_arrays(model)
    kept = buffers_of(model)
    attribute = getattr(type(model), "buffers", None)
    fixed = isinstance(attribute, property) and attribute.fset is None
    if fixed and (model.buffers is None or model.buffers is not model.buffers):
        raise ValueError(f"{FUNC}: model.buffers must be a dictionary or have a setter; got a property without one")
    if kept:
        try:
            write_buffers(model, kept)
        except AttributeError as error:
            raise ValueError(f"{FUNC}: model.buffers must be a dictionary or have a setter; got {error}") from error


def check_loss(answer: Any) -> tuple[Any, dict[str, Array]]:
    """Return (loss, gradients) of what ``model.loss(X, y)`` returned."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"{FUNC}: model.loss(X, y) must return (loss, grads); got {type(answer).__name__}")
    loss, grads = answer
    check_number(FUNC, "model.loss(X, y)", loss, " as loss")
    if not isinstance(grads, dict):
        raise TypeError(f"{FUNC}: model.loss(X, y) must return a dictionary of gradients; got {type(grads).__name__}")
    return loss, grads


def check_gradients(what: str, params: dict[str, Array], grads: dict[str, Any]) -> dict[str, Array]:
    """Return the gradients of ``params`` alone, each checked; ``what`` names the dictionary in errors."""
    found = {}
    for name, w in params.items():
        grad = grads.get(name)
        if grad is None:
            missing = "None" if name in grads else f"the names {sorted(map(str, grads))}"
            raise ValueError(f"{FUNC}: {what} must have a gradient for {name!r}; got {missing}")
        if not hasattr(grad, "dtype") or not hasattr(grad, "shape"):
            raise TypeError(f"{FUNC}: {what}[{name!r}] must be an array; got {type(grad).__name__}")
        if grad.shape != w.shape:
            raise ValueError(f"{FUNC}: {what}[{name!r}] must have shape {tuple(w.shape)}; got {tuple(grad.shape)}")
        if grad.dtype != w.dtype:
            raise TypeError(f"{FUNC}: {what}[{name!r}] must have the parameter's dtype, {w.dtype}; got {grad.dtype}")
        found[name] = with_axes(grad)
    return found


def check_scores(func: str, scores: Any, samples: int) -> Array:
    """Return the scores that ``model.loss(X)`` returned for so many samples."""
    if array_kind(scores) is None:
        raise TypeError(f"{func}: model.loss(X) must return an array of scores; got {type(scores).__name__}")
    if scores.ndim != 2 or scores.shape[0] != samples:
        raise ValueError(f"{func}: model.loss(X) must return scores ({samples}, C); got shape {tuple(scores.shape)}")
    return scores
