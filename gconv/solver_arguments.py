"""Checks of what a Solver is given."""

from __future__ import annotations

from typing import Any

from gconv._checks import param, positive_int
from gconv._typing import Array
from gconv.backends import array_kind
from gconv.backends.update_rules import UPDATE_RULES
from gconv.optim import HYPERPARAMETERS
from gconv.training.augmentation import Augment

__all__ = ["check_augment", "check_model", "check_optim", "optional_count", "samples"]


def optional_count(name: str, value: int | None) -> int | None:
    """Return ``value`` as a positive int, or None."""
    return None if value is None else positive_int("Solver", name, value)


def samples(data: Any, x_name: str, y_name: str) -> tuple[Array, Array]:
    """Return (X, y) of the data set, samples along the first axis and as many integer labels."""
    X, y = param("Solver", "data", data, x_name), param("Solver", "data", data, y_name)
    for name, array in ((x_name, X), (y_name, y)):
        if array_kind(array) is None or array.ndim < 1:
            raise TypeError(f"Solver: data[{name!r}] must be an array of samples; got {type(array).__name__}")
    if X.dtype.kind not in "fiub":
        raise TypeError(f"Solver: data[{x_name!r}] must be real numbers; got dtype {X.dtype}")
    if y.dtype.kind not in "iu":
        raise TypeError(f"Solver: data[{y_name!r}] must be integer labels; got dtype {y.dtype}")
    if y.shape != (len(X),):
        raise ValueError(
            f"Solver: data[{y_name!r}] must have shape {(len(X),)} to match data[{x_name!r}]; got {tuple(y.shape)}"
        )
    return X, y


def check_optim(update_rule: Any, optim_config: Any) -> None:
    """Raise an error unless the rule and the names in its configuration exist."""
    if not isinstance(update_rule, str) or update_rule not in UPDATE_RULES:
        raise ValueError(f"Solver: update_rule must be one of {', '.join(UPDATE_RULES)}; got {update_rule!r}")
    if optim_config is not None and not isinstance(optim_config, dict):
        raise TypeError(f"Solver: optim_config must be a dictionary; got {type(optim_config).__name__}")
    misspelt = sorted(set(optim_config or {}) - {*HYPERPARAMETERS})
    if misspelt:
        raise ValueError(
            f"Solver: optim_config must have keys among {', '.join(HYPERPARAMETERS)}; got {', '.join(misspelt)}"
        )


def check_model(model: Any) -> None:
    """Raise an error unless the model is what a Solver can train."""
    if not isinstance(getattr(model, "params", None), dict) or not callable(getattr(model, "loss", None)):
        raise TypeError(f"Solver: model must have a dictionary params and a method loss; got {type(model).__name__}")


def check_augment(augment: Any, X: Array) -> None:
    """Raise an error unless ``augment`` can be applied to the training data."""
    if augment is None:
        return
    if not isinstance(augment, Augment):
        raise TypeError(f"Solver: augment must be a gconv.training.augmentation.Augment; got {type(augment).__name__}")
    if X.ndim != 4:
        raise ValueError(f"Solver: augment needs data['X_train'] of images (N, C, H, W); got shape {tuple(X.shape)}")
