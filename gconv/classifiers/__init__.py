"""Models: dictionaries of named parameters with a ``loss(X, y)`` method, as the Solver takes them."""

from __future__ import annotations

from typing import Any

from gconv._typing import Array
from gconv.backends import get_backend
from gconv.classifiers.cnn import ThreeLayerConvNet
from gconv.classifiers.fc_net import FullyConnectedNet, TwoLayerNet
from gconv.classifiers.parameters import at_most

__all__ = ["FullyConnectedNet", "ThreeLayerConvNet", "TwoLayerNet", "model_from_config"]


def model_from_config(config: dict[str, Any], params: dict[str, Array] | None = None) -> Any:
    """Return a new model from what ``model.config`` said, as a checkpoint keeps it.

    Parameters
    ----------
    config : dict
    params : dict of str to array, optional
        Its parameters; without them it gets random ones.

    Raises
    ------
    ValueError
        If the class is none of this package's, an option unknown, a number out of range, or ``params`` have other
        names, shapes or dtypes; nothing larger than they are is allocated on the way.
    TypeError
        For values of a wrong type.
    """
    if params is not None:
        with at_most(max((array.size for array in params.values()), default=0)):
            model = model_from_config(config)
        expected = {name: (tuple(w.shape), w.dtype) for name, w in model.params.items()}
        found = {name: (tuple(w.shape), w.dtype) for name, w in params.items()}
        if found != expected:
            raise ValueError(f"model_from_config: params must be those of config, {expected}; got {found}")
        model.params.update({name: get_backend().asarray(params[name]) for name in expected})
        return model
    options = dict(config)
    classes = {cls.__name__: cls for cls in (ThreeLayerConvNet, TwoLayerNet, FullyConnectedNet)}
    name = options.pop("class", None)
    if name not in classes:
        raise ValueError(f"model_from_config: config['class'] must be one of {', '.join(classes)}; got {name!r}")
    return classes[name](**options)
