"""What benchmarks/gpu.py times of gconv, and the ceilings of the device, as functions by name.

A row is made by a function that returns (work, bytes, FLOPs): ``work`` queues one repetition on the device; bytes
and FLOPs are the fewest that the operation needs, 0 where none are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import cycle
from typing import Any

import cupy
import numpy as np

from benchmarks.gpu_shapes import CONVOLUTIONS, LARGE, SETS, STEPS
from gconv._updates import step_all
from gconv.backends import get_backend, use_backend
from gconv.backends.update_rules import UPDATE_RULES
from gconv.classifiers import ThreeLayerConvNet
from gconv.fast_layers import conv_backward_fast, conv_forward_fast, max_pool_backward_fast, max_pool_forward_fast
from gconv.layers import softmax_loss, spatial_batchnorm_backward, spatial_batchnorm_forward
from gconv.solver import Solver

Row = tuple[Callable[[], Any], float, float]


def normal(*shape: int, scale: float = 1.0) -> Any:
    """Return float32 values on the device: four million drawn on the host, over and over."""
    size = math.prod(shape)
    drawn = cupy.asarray(_drawn(min(size, 1 << 22))) * np.float32(scale)
    values = cupy.empty(size, np.float32)
    for begin in range(0, size, drawn.size):
        values[begin : begin + drawn.size] = drawn[: size - begin]
    return values.reshape(shape)


@cache
def _drawn(size: int) -> Any:
    return np.random.default_rng(0).standard_normal(size).astype(np.float32)


def convolution(name: str, backward: bool, shrink: int) -> Row:
    x_shape, w_shape, stride, pad = CONVOLUTIONS[name]
    x_shape = (max(x_shape[0] // shrink, 1), *x_shape[1:])
    param = {"stride": stride, "pad": pad}
    w, b = normal(*w_shape, scale=0.05), normal(w_shape[0])
    inputs = [normal(*x_shape) + i for i in range(SETS)]
    out, _ = conv_forward_fast(inputs[0], w, b, param)
    flops = 2 * out.size * w[0].size
    size = 4.0 * (inputs[0].size + w.size + out.size)
    turns = cycle(inputs)
    if not backward:
        return lambda: conv_forward_fast(next(turns), w, b, param), size, flops
    dout = normal(*out.shape)
    return lambda: conv_backward_fast(dout, (next(turns), w, b, param)), 2 * size, 2 * flops


def data_set(train: int, val: int) -> dict[str, Any]:
    """Return random images and labels on the device."""
    labels = cupy.asarray(np.random.default_rng(0).integers(10, size=max(train, val)))
    return {
        "X_train": normal(train, 3, 32, 32),
        "y_train": labels[:train],
        "X_val": normal(val, 3, 32, 32),
        "y_val": labels[:val],
    }


def step(batch: int, graph: bool, shrink: int) -> Row:
    """Loss, gradients and Adam of the course's network on minibatches of a data set on the device."""
    data = data_set(50_000 // shrink, 1)
    options: dict[str, Any] = {"update_rule": "adam", "optim_config": {"learning_rate": 1e-3}}
    model = ThreeLayerConvNet(weight_scale=1e-2, rng=0)
    solver = Solver(model, data, batch_size=batch, num_epochs=1, verbose=False, seed=0, graph=graph, **options)
    solver._total = 1 << 40
    steps = solver._steps()

    def work() -> None:
        steps.run()
        solver.iteration += 1

    for _ in range(4):  # past the first accuracy check, whose tables are short
        work()
    return work, 0, 3 * 2 * batch * (32 * 32 * 32 * 147 + 8192 * 100 + 1000)


def epoch(shrink: int) -> Row:
    """One epoch of 49,000 images, batch 100, with the data set on the device and the accuracy checks at its ends."""
    data = data_set(49_000 // shrink, 1000 // shrink)
    model = ThreeLayerConvNet(weight_scale=1e-2, rng=0)
    solver = Solver(model, data, update_rule="adam", batch_size=100, num_epochs=1, verbose=False, seed=0)
    return lambda: solver.train(1), 0, 0


def pool(window: int, backward: bool, shrink: int) -> Row:
    n, c, h, w = LARGE[0] // shrink, *LARGE[1:]
    x, param = normal(n, c, h, w), {"pool_height": window, "pool_width": window, "stride": 2}
    out, cache = max_pool_forward_fast(x, param)
    if backward:
        return lambda: max_pool_backward_fast(out, cache), 4.0 * x.size + 5.0 * out.size, 0
    return lambda: max_pool_forward_fast(x, param), 4.0 * x.size + 5.0 * out.size, 0


def batchnorm(backward: bool, shrink: int) -> Row:
    x = normal(LARGE[0] // shrink, *LARGE[1:])
    gamma, beta = normal(LARGE[1]), normal(LARGE[1])
    out, cache = spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
    if backward:  # reads dout and x for the sums, and again for dx
        return lambda: spatial_batchnorm_backward(out, cache), 5 * 4.0 * x.size, 0
    return lambda: spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"}), 3 * 4.0 * x.size, 0


def softmax(shrink: int) -> Row:
    n = 4_000_000 // shrink
    scores, labels = normal(n, 10), cupy.asarray(np.arange(n) % 10)
    return lambda: softmax_loss(scores, labels), 2 * 4.0 * scores.size + 8.0 * n, 0


def optimiser(rule: str, shrink: int) -> Row:
    size = 64_000_000 // shrink
    params, grads = {"w": normal(size)}, {"w": normal(size)}
    states = {"w": {key: cupy.zeros(size, "float32") for key in UPDATE_RULES[rule].states}}
    configs: dict[str, dict[str, Any]] = {"w": dict(states["w"])}
    arrays = 3 + 2 * len(states["w"])
    return lambda: step_all(rule, params, grads, configs, params, states), arrays * 4.0 * size, 0


def course_convolution(backend: str, backward: bool) -> Row:
    """The convolution that the course's notebook compares, with a tenth of its batch."""
    arrays = [normal(*shape) for shape in ((10, 3, 31, 31), (25, 3, 3, 3), (25,), (10, 25, 16, 16))]
    x, w, b, dout = arrays if backend == "gpu" else [cupy.asnumpy(a) for a in arrays]
    param = {"stride": 2, "pad": 1}

    def work() -> None:
        with use_backend(backend):
            if backward:
                conv_backward_fast(dout, (x, w, b, param))
            else:
                conv_forward_fast(x, w, b, param)

    return work, 0, 0


def copy(shrink: int) -> Row:
    """The bandwidth that the device has: 2 GB read, 2 GB written."""
    source = cupy.zeros((1 << 29) // shrink, np.float32)
    target = cupy.empty_like(source)

    def work() -> None:
        target[...] = source

    return work, 8.0 * source.size, 0


def product(shrink: int) -> Row:
    """The float32 rate that the device has, by cuBLAS without TF32."""
    n = 8192 // shrink
    a, b = normal(n, n), normal(n, n)
    return lambda: cupy.matmul(a, b), 12.0 * n * n, 2.0 * n**3


def rows(shrink: int = 1) -> dict[str, Callable[[], Row]]:
    """Return every row by name; ``shrink`` divides batches and sizes, to try the command on a small machine."""
    found: dict[str, Callable[[], Row]] = {
        "ceiling: copy": lambda: copy(shrink),
        "ceiling: float32 product": lambda: product(shrink),
    }
    for batch in STEPS:
        for graph in (True, False):
            name = f"step, batch {batch}, {'graph' if graph else 'no graph'}"
            found[name] = lambda batch=batch, graph=graph: step(max(batch // shrink, 2), graph, shrink)
    found["epoch, 49,000 images, batch 100"] = lambda: epoch(shrink)
    for name in CONVOLUTIONS:
        for backward in (False, True):
            row = f"conv {'backward' if backward else 'forward'}: {name}"
            found[row] = lambda name=name, backward=backward: convolution(name, backward, shrink)
    for window in (2, 3):
        for backward in (False, True):
            row = f"max pool {window}x{window} stride 2 {'backward' if backward else 'forward'}"
            found[row] = lambda window=window, backward=backward: pool(window, backward, shrink)
    for backward in (False, True):
        found[f"batchnorm {'backward' if backward else 'forward'}"] = lambda backward=backward: batchnorm(
            backward, shrink
        )
    found["softmax loss, 4,000,000 x 10"] = lambda: softmax(shrink)
    for rule in ("sgd", "sgd_momentum", "rmsprop", "adam"):
        found[f"{rule}, 64,000,000 values"] = lambda rule=rule: optimiser(rule, shrink)
    for backward in (False, True):
        for backend in ("naive", "cpu", "gpu"):
            row = f"course's conv {'backward' if backward else 'forward'}, batch 10, {backend}"
            found[row] = lambda backend=backend, backward=backward: course_convolution(backend, backward)
    return found


def prepare() -> None:
    """Make the GPU the default of this process."""
    use_backend("gpu")


def synchronize() -> None:
    """Wait for the device."""
    get_backend().synchronize()


def event() -> Any:
    """Return a CUDA event at the end of what is queued."""
    recorded = cupy.cuda.Event()
    recorded.record()
    return recorded


def elapsed(begin: Any, end: Any) -> float:
    """Return milliseconds between two events, once the second has happened."""
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(begin, end))


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    from gconv import __version__
    from gconv.backends.gpu_diagnosis import describe_gpu

    return {"gconv": __version__, "numpy": np.__version__, "device": describe_gpu()}
