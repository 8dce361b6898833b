"""gconv.optim under this course's names, and with its keys for the moving averages.

Each rule takes (w, dw, config) and returns (next_w, config), as gconv.optim's does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gconv import optim as _optim
from gconv._typing import Array
from gconv.optim import nesterov_momentum as sgd_nesterov_momentum
from gconv.optim import sgd, sgd_momentum

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum", "sgd_nesterov_momentum"]

Config = dict[str, Any]


def rmsprop(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Do gconv.optim.rmsprop; ``a`` is the moving average of dw^2 that is ``cache`` there."""
    return _renamed(_optim.rmsprop, w, dw, config, {"a": "cache"})


def adam(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Do gconv.optim.adam; ``v`` is the moving average of dw and ``a`` that of dw^2, ``m`` and ``v`` there."""
    return _renamed(_optim.adam, w, dw, config, {"v": "m", "a": "v"})


def _renamed(
    rule: Callable[..., tuple[Array, Config]], w: Array, dw: Array, config: Config | None, names: dict[str, str]
) -> tuple[Array, Config]:
    """Return what a rule returns, whose state has other keys; ``config`` itself is updated, as elsewhere."""
    config = {} if config is None else config
    if not isinstance(config, dict):
        return rule(w, dw, config)  # whose error it is
    next_w, found = rule(w, dw, {names.get(key, key): value for key, value in config.items()})
    here = {theirs: ours for ours, theirs in names.items()}
    config.update({here.get(key, key): value for key, value in found.items()})
    return next_w, config
