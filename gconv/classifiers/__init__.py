"""Models: dictionaries of named parameters with a ``loss(X, y)`` method, as the Solver takes them."""

from __future__ import annotations

from typing import Any

from gconv.classifiers.cnn import ThreeLayerConvNet
from gconv.classifiers.fc_net import FullyConnectedNet, TwoLayerNet

__all__ = ["FullyConnectedNet", "ThreeLayerConvNet", "TwoLayerNet", "model_from_config"]


def model_from_config(config: dict[str, Any]) -> Any:
    """Return a new model from what ``model.config`` said, as a checkpoint keeps it.

    Raises
    ------
    ValueError
        If the class is none of this package's.
    """
    options = dict(config)
    classes = {cls.__name__: cls for cls in (ThreeLayerConvNet, TwoLayerNet, FullyConnectedNet)}
    name = options.pop("class", None)
    if name not in classes:
        raise ValueError(f"model_from_config: config['class'] must be one of {', '.join(classes)}; got {name!r}")
    return classes[name](**options)
