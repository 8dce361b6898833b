"""The layers under test: each function draws a case and returns it.

A case runs on any backend: ``run(arrays, gradient)`` calls the layers and returns their results; ``gradient(out)``
makes the gradient of an output, the same values on every backend. ``terms`` is how many products or sums a value of
each result has; ``spoilt`` changes an argument so that every backend must raise the same error.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gconv import fast_layers, im2col, layer_utils, layers, optim
from gconv.backends.update_rules import UPDATE_RULES

# Where a variance is nearly 0 its error is multiplied by up to 1 / sqrt(eps) = 316, on the way back twice.
NORMALISED = 1e5


@dataclass
class Case:
    arrays: list[np.ndarray]
    run: Any
    terms: float | list[float]
    options: dict = field(default_factory=dict)  # what may be spoilt beside the arrays
    skips_zeros: bool = False  # a gradient of 0 times infinity may be left out, and is NaN in the loops


def convolution(draw):
    x, w, b, conv_param, sizes = draw.conv()
    forward, backward = draw.of(
        (
            (fast_layers.conv_forward_fast, fast_layers.conv_backward_fast),
            (layer_utils.conv_relu_forward, layer_utils.conv_relu_backward),
            (fast_layers.conv_forward_im2col, fast_layers.conv_backward_im2col),
        )
    )

    bias = [] if draw.chance(5) else [b]

    def run(arrays, gradient):
        x, w, *bias = arrays
        out, cache = forward(x, w, *(bias or [None]), conv_param)
        return [out, *backward(gradient(out), cache)[: 2 + len(bias)]]

    return Case([x, w, *bias], run, products(x, w, sizes), conv_param)


def first_layer(draw):
    x, w, b, conv_param, sizes = draw.conv()

    def run(arrays, gradient):
        out, cache = fast_layers.conv_forward_fast(*arrays, conv_param)
        return [out, *fast_layers.conv_backward_fast(gradient(out), cache, input_grad=False)[1:]]

    return Case([x, w, b], run, products(x, w, sizes), conv_param)


def products(x, w, sizes):
    """More than any value of out, dx, dw and db sums up."""
    return float(max(w.size, x.size, len(x) * sizes[0] * sizes[1], 1))


def pooling(draw):
    return windows(draw, fast_layers.max_pool_forward_fast, fast_layers.max_pool_backward_fast)


def average(draw):
    return windows(draw, fast_layers.avg_pool_forward_fast, fast_layers.avg_pool_backward_fast)


def windows(draw, forward, backward):
    n, channels, height, width = draw.batch(), draw.channels(), draw.size(), draw.size()
    if draw.budget <= 64:
        n = channels = 1
    height = min(height, max(draw.budget * 4 // max(n * channels * width, 1), 1))
    x = draw.array((n, channels, height, width))
    pool_param = draw.pool(x.shape[2:])

    def run(arrays, gradient):
        out, cache = forward(*arrays, pool_param)
        return [out, backward(gradient(out), cache)]

    return Case([x], run, pool_param["pool_height"] * pool_param["pool_width"], pool_param)


def conv_relu_pool(draw):
    # Of values that rounding keeps apart: elsewhere the maximum may be another one, and gets the gradient.
    if not draw.exact:
        draw.dtype = np.float64
    x, w, b, conv_param, sizes = draw.conv()
    pool_param = draw.pool(sizes)
    if not draw.exact:
        x, w, b = (a if a.dtype == np.uint8 else a.astype(np.float64) for a in (x, w, b))
    input_grad = bool(draw.chance(2))

    def run(arrays, gradient):
        out, cache = layer_utils.conv_relu_pool_forward(*arrays, conv_param, pool_param)
        return [out, *layer_utils.conv_relu_pool_backward(gradient(out), cache, input_grad)[not input_grad :]]

    return Case([x, w, b], run, 9 * products(x, w, sizes), conv_param, skips_zeros=True)


def conv_bn_relu(draw):
    draw.exact = draw.hard = False
    x, w, b, conv_param, sizes = draw.conv()
    x, w, b = (a if a.dtype == np.uint8 else a.astype(np.float64) for a in (x, w, b))
    gamma, beta = draw.array(b.shape, np.float64), draw.array(b.shape, np.float64)

    def run(arrays, gradient):
        out, cache = layer_utils.conv_bn_relu_forward(*arrays, conv_param, {"mode": "train"})
        return [out, *layer_utils.conv_bn_relu_backward(gradient(out), cache)]

    return Case([x, w, b, gamma, beta], run, NORMALISED**2 * products(x, w, sizes), conv_param)


def columns(draw):
    x, w, _, conv_param, _ = draw.conv()
    x = draw.array(x.shape)
    stride, pad = (value if isinstance(value, int) else value[0] for value in (conv_param["stride"], conv_param["pad"]))
    height, width = w.shape[2:]
    if x.shape[2] + 2 * pad < height or x.shape[3] + 2 * pad < width:
        pad = 3

    def run(arrays, gradient):
        cols = im2col.im2col_indices(arrays[0], height, width, pad, stride)
        return [cols, im2col.col2im_indices(gradient(cols), x.shape, height, width, pad, stride)]

    return Case([x], run, height * width)


def affine(draw):
    n, d, m = draw.batch(), draw.of((*EDGES_AND_MORE,)), draw.of((*EDGES_AND_MORE,))
    shape = (n, d) if draw.chance(2) else (n, *draw.of(((d,), (1, d), (d, 1, 1))))
    forward, backward = draw.of(
        (
            (layers.affine_forward, layers.affine_backward),
            (layer_utils.affine_relu_forward, layer_utils.affine_relu_backward),
        )
    )

    def run(arrays, gradient):
        out, cache = forward(*arrays)
        return [out, *backward(gradient(out), cache)]

    return Case([draw.image(shape), draw.array((d, m)), draw.array((m,))], run, max(n, d, m))


EDGES_AND_MORE = (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 47, 48, 64, 65, 100, 129)


def normalisation(draw):
    draw.hard = False
    n, channels = max(draw.batch(), 1), draw.channels()
    sizes = draw.of(((), (draw.size() % 40 + 1, draw.size() % 40 + 1)))
    kinds = ["batch", "layer"] if not sizes else ["batch", "group"]
    kind, mode = draw.of(kinds), draw.of(("train", "train", "test"))
    groups = draw.of([g for g in range(1, channels + 1) if channels % g == 0])
    x, shape = draw.array((n, channels, *sizes)), (channels,) if kind != "group" else (1, channels, 1, 1)
    gamma, beta = draw.array(shape, x.dtype), draw.array(shape, x.dtype)
    averages = [draw.array((channels,), x.dtype), np.abs(draw.array((channels,), x.dtype)) + x.dtype.type(0.1)]

    def run(arrays, gradient):
        x, gamma, beta, *averages = arrays
        if kind == "batch":
            spatial = "spatial_" if sizes else ""
            param = dict(zip(("running_mean", "running_var"), averages, strict=True)) | {"mode": mode}
            out, cache = getattr(layers, f"{spatial}batchnorm_forward")(x, gamma, beta, param)
            back = getattr(layers, f"{spatial}batchnorm_backward")(gradient(out), cache)
            return [out, *back, param["running_mean"], param["running_var"]]
        if kind == "layer":
            out, cache = layers.layernorm_forward(x, gamma, beta, {})
            return [out, *layers.layernorm_backward(gradient(out), cache)]
        out, cache = layers.spatial_groupnorm_forward(x, gamma, beta, groups, {})
        return [out, *layers.spatial_groupnorm_backward(gradient(out), cache)]

    return Case([x, gamma, beta, *averages], run, NORMALISED**2 * max(x.size, 1))


def activation(draw):
    x = draw.array(tuple(draw.of(EDGES_AND_MORE) for _ in range(draw.of((1, 2, 3)))))
    if draw.chance(10):
        x = x[:0]
    name, options = draw.of((("relu", ()), ("relu", ()), ("leaky_relu", ({"alpha": 0.25},))))
    forward, backward = (getattr(layers, f"{name}_{way}") for way in ("forward", "backward"))

    def run(arrays, gradient):
        out, cache = forward(*arrays, *options)
        return [out, backward(gradient(out), cache)]

    return Case([x], run, 0)


def dropout(draw):
    x = draw.array((draw.batch(), draw.of(EDGES_AND_MORE)))
    param = {"p": draw.of((0.25, 0.5, 1.0)), "mode": draw.of(("train", "test")), "seed": 3}

    def run(arrays, gradient):
        out, cache = layers.dropout_forward(*arrays, param)
        return [out, layers.dropout_backward(gradient(out), cache)]

    return Case([x], run, 1)


def losses(draw):
    draw.hard = False
    loss = draw.of((layers.softmax_loss, layers.svm_loss))
    n, classes = max(draw.batch(), 1) * draw.of((1, 16)), draw.of(EDGES_AND_MORE)
    x = draw.array((n, classes))
    if draw.chance(4) and draw.exact:
        x = x * x.dtype.type(100)  # far past what an exponential holds
    y = draw.rng.integers(classes, size=n).astype(draw.of((np.int64, np.int32, np.uint8)))

    options = {}
    if loss is layers.softmax_loss and draw.chance(2):
        options = {
            "label_smoothing": draw.of((0, 0.25, 1.0)),
            "ignore_label": draw.of((None, 0, -1, 255)),
            "class_weights": draw.of((None, draw.rng.integers(0, 4, classes).tolist())),
        }
        if draw.chance(3):
            options["ignore_label"], y = None, np.abs(draw.array((n, classes)))
        elif options["ignore_label"] == 255:
            y[::2] = 255

    def run(arrays, gradient):
        value, dx = loss(*arrays, **options)
        return [value.reshape(1), dx]

    return Case([x, y], run, 16 * (x.size + 1))


def update_rule(draw):
    draw.hard = False  # of an infinite weight nothing can be made
    name = draw.of(list(UPDATE_RULES))
    shape = (draw.of(EDGES_AND_MORE), draw.of((1, 3, 17)))
    w, dw = draw.array(shape, draw.dtype), draw.array(shape, draw.dtype)

    def run(arrays, gradient):
        w, dw = arrays
        config = {"learning_rate": 1e-2}
        for _ in range(3):
            w, config = getattr(optim, name)(w, dw, config)
        return [w, *(value for value in config.values() if hasattr(value, "shape"))]

    return Case([w, dw], run, 64)


OPERATIONS = (
    *((convolution,) * 3 + (conv_relu_pool,) * 3 + (pooling,) * 2),
    *(average, first_layer, conv_bn_relu, columns, affine, normalisation, activation, dropout, losses, update_rule),
)
