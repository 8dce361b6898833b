"""Models as ONNX files, for other programs to run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gconv.backends import get_backend
from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from gconv.files import write_atomically

__all__ = ["export_onnx"]

OPSET = 17  # the first with LayerNormalization


def export_onnx(model: Any, path: str | os.PathLike[str]) -> Path:
    """Write a model's scores as an ONNX graph, from ``images`` (N, ...) to ``scores`` (N, num_classes).

    The graph computes in float32, which every runtime has, also for a model in float64. Normalisation uses the
    running averages and dropout does nothing, as in ``model.loss(X)``. Needs the package onnx
    (``pip install "gconv[onnx]"``).

    Parameters
    ----------
    model : ThreeLayerConvNet, TwoLayerNet or FullyConnectedNet
    path : path
        Conventionally ``NAME.onnx``.

    Returns
    -------
    Path
        ``path``

    Raises
    ------
    TypeError
        For another model.
    ModuleNotFoundError
        Without onnx.
    """
    if not isinstance(model, (ThreeLayerConvNet, TwoLayerNet, FullyConnectedNet)):
        raise TypeError(f"export_onnx: model must be one of gconv's models; got {type(model).__name__}")
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "export_onnx: the file is made by onnx, which is not installed: pip install 'gconv[onnx]'"
        ) from error
    graph = _Graph(onnx.helper, model)
    if isinstance(model, ThreeLayerConvNet):
        size: list[Any] = ["N", *model.input_dim]
        pad = model.conv_param["pad"]
        graph.node("Conv", ["W1", "b1"], strides=[1, 1], pads=[pad] * 4)
        graph.node("Relu")
        graph.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        graph.node("Flatten")
        layers = range(2, 4)
    else:
        size = ["N", int(model.params["W1"].shape[0])]
        layers = range(1, sum(name.startswith("W") for name in model.params) + 1)
    for layer in layers[:-1]:
        graph.node("Gemm", [f"W{layer}", f"b{layer}"])
        if f"gamma{layer}" in model.params:
            graph.normalize(layer)
        graph.node("Relu")
    graph.node("Gemm", [f"W{layers[-1]}", f"b{layers[-1]}"], output="scores")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        type(model).__name__,
        [helper.make_tensor_value_info("images", number, size)],
        [helper.make_tensor_value_info("scores", number, ["N", len(model.params[f"b{layers[-1]}"])])],
        graph.weights,
    )
    opset = [helper.make_opsetid("", OPSET)]
    written = helper.make_model(made, opset_imports=opset, producer_name="gconv", ir_version=8)
    onnx.checker.check_model(written, full_check=True)
    write_atomically(path, written.SerializeToString())
    return Path(path)


class _Graph:
    """Nodes one after the other, and the weights that they use."""

    def __init__(self, helper: Any, model: Any) -> None:
        self._helper, self._model, self.last = helper, model, "images"
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, operation: str, weights: Sequence[str] = (), output: str = "", **attributes: Any) -> None:
        """Add an operation on what the last one gave, and weights by their names."""
        values = {**self._model.params, **self._model.buffer_values()}
        for name in weights:
            array = np.ascontiguousarray(get_backend(values[name]).to_numpy(values[name]), np.float32)
            self.weights.append(self._helper.make_tensor(name, 1, array.shape, array.tobytes(), raw=True))
        inputs, self.last = [self.last, *weights], output or f"{operation}{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(operation, inputs, [self.last], **attributes))

    def normalize(self, layer: int) -> None:
        """Add the normalisation of a hidden layer."""
        names = [f"gamma{layer}", f"beta{layer}"]
        epsilon = self._model.bn_params[layer - 1].get("eps", 1e-5)
        if self._model.normalization == "layernorm":
            self.node("LayerNormalization", names, axis=-1, epsilon=epsilon)
        else:
            averages = [f"running_mean{layer}", f"running_var{layer}"]
            self.node("BatchNormalization", names + averages, epsilon=epsilon)
