"""What is timed of gconv, on the backend that GCONV_BACKEND selects.

A row is made by a function that returns (work, bytes, FLOPs): ``work`` does one repetition, or queues it on a GPU;
bytes and FLOPs are the fewest that the operation needs, 0 where none are counted. ``rows`` names them at the sizes of a
CPU, ``gpu_rows`` at those of a GPU.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import cache, partial
from itertools import cycle, pairwise
from typing import Any

import numpy as np

from gconv import __version__, fast_layers
from gconv._updates import step_all
from gconv.backends import BackendUnavailableError, get_backend, use_backend
from gconv.backends.threads import get_num_threads
from gconv.backends.update_rules import UPDATE_RULES
from gconv.benchmarking.shapes import CPU, GPU, SEED, Convolution, Shape, fewer
from gconv.classifiers import ThreeLayerConvNet
from gconv.layer_utils import conv_relu_pool_backward, conv_relu_pool_forward
from gconv.layers import softmax_loss, spatial_batchnorm_backward, spatial_batchnorm_forward
from gconv.solver import Solver
from gconv.training.batches import Batches
from gconv.training.device import DeviceSteps
from gconv.training.draws import Draws
from gconv.training.graph import GraphSteps
from gconv.training.hooks import Hooks
from gconv.training.optimizer import Optimizer
from gconv.training.run import Run
from gconv.training.steps import HostSteps, Steps

__all__ = ["gpu_rows", "prepare", "rows", "synchronize", "versions"]

Row = tuple[Callable[[], Any], float, float]
Rows = dict[str, Callable[[], Row]]
ADAM: dict[str, Any] = {"learning_rate": 1e-3}
ENDLESS = 1 << 40  # steps to the next accuracy check, and to the end
MANY = 1 << 22  # random values that are drawn; larger arrays repeat them


def prepare() -> None:
    """Do nothing: the environment selects the backend."""


def synchronize() -> None:
    """Wait for the device, if there is one."""
    get_backend().synchronize()


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    found = {"gconv": __version__, "numpy": np.__version__}
    try:
        on_device = get_backend().name == "gpu"
    except BackendUnavailableError:
        on_device = False  # each row will say so
    if on_device:
        from gconv.backends.gpu_diagnosis import describe_gpu

        return {**found, "device": describe_gpu()}
    from gconv.backends.cpu import kernels

    found["threads"] = str(get_num_threads())
    return {**found, "SIMD": kernels.simd_level()} if kernels else found


@cache
def _drawn(dtype: str) -> Any:
    return np.random.default_rng(0).standard_normal(MANY, dtype=dtype)  # type: ignore[call-overload]


def normal(*shape: int, dtype: str = "float32", scale: float = 1.0) -> Any:
    """Return the same random values each time, on the backend."""
    backend, size = get_backend(), math.prod(shape)
    drawn = backend.asarray(_drawn(dtype)[:size] * np.asarray(scale, dtype))
    values = backend.xp.empty(size, dtype)
    for begin in range(0, size, MANY):
        values[begin : begin + MANY] = drawn[: size - begin]
    return values.reshape(shape)


def classes(count: int) -> Any:
    """Return labels below 10, on the backend."""
    return get_backend().asarray(np.arange(count) % 10)


def zeros(w: Any, *names: str) -> dict[str, Any]:
    """Return an update rule's states of a parameter before its first step."""
    return {name: get_backend(w).xp.zeros(w.shape, w.dtype) for name in names}


def product(dtype: str, n: int) -> Row:
    """The rate that the device has: the best square product of its BLAS, without TF32."""
    a, b = normal(n, n, dtype=dtype), normal(n, n, dtype=dtype)
    return lambda: a @ b, 0, 2.0 * n**3


def equal_parts(size: int, count: int) -> list[tuple[int, int]]:
    """Return where each of so many parts of an array begins and ends."""
    return list(pairwise(size * i // count for i in range(count + 1)))


def copy(size: int) -> Row:
    """The bandwidth that the device has: float32 values copied, on the CPU an equal part by each thread."""
    backend = get_backend()
    source = backend.xp.ones(size, np.float32)
    target = source.copy()  # memory in use: the system clears fresh memory

    def copy_part(begin: int, end: int) -> None:
        target[begin:end] = source[begin:end]

    def by_threads() -> None:
        parts = equal_parts(size, get_num_threads())
        threads = [threading.Thread(target=copy_part, args=part) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return partial(copy_part, 0, size) if backend.name == "gpu" else by_threads, 8.0 * size, 0


def convolution(
    shape: Convolution, dtype: str = "float32", method: str = "fast", sets: int = 1, *, backward: bool
) -> Row:
    """A convolution, or its gradients with dx, on ``sets`` inputs in turn."""
    x_shape, w_shape, stride, pad = shape
    forward_of, backward_of = (getattr(fast_layers, f"conv_{way}_{method}") for way in ("forward", "backward"))
    w, b = normal(*w_shape, dtype=dtype, scale=0.05), normal(w_shape[0], dtype=dtype)
    inputs, param = [normal(*x_shape, dtype=dtype) + i for i in range(sets)], {"stride": stride, "pad": pad}
    out, first = forward_of(inputs[0], w, b, param)
    x = inputs[0]
    size, flops = float(x.itemsize * (x.size + w.size + out.size)), 2.0 * out.size * math.prod(w_shape[1:])
    if backward:
        caches = cycle([first, *(forward_of(x, w, b, param)[1] for x in inputs[1:])])
        return lambda: backward_of(out, next(caches)), 2 * size, 2 * flops
    turns = cycle(inputs)
    return lambda: forward_of(next(turns), w, b, param), size, flops


def first_layer_fused(*, backward: bool) -> Row:
    """Convolution, ReLU and 2x2 pooling of the first layer; backwards without dx, which nobody needs."""
    x_shape, w_shape, stride, pad = CPU.convolutions["first layer"]
    x, w, b = normal(*x_shape), normal(*w_shape, scale=0.05), normal(w_shape[0])
    param, window = {"stride": stride, "pad": pad}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = conv_relu_pool_forward(x, w, b, param, window)
    flops = 2.0 * 4 * out.size * math.prod(w_shape[1:])
    if backward:
        return lambda: conv_relu_pool_backward(out, cache, input_grad=False), 0, flops
    return lambda: conv_relu_pool_forward(x, w, b, param, window), 0, flops


def pool(shape: Shape, window: int, dtype: str = "float32", *, backward: bool) -> Row:
    """Max pooling with stride 2."""
    x, param = normal(*shape, dtype=dtype), {"pool_height": window, "pool_width": window, "stride": 2}
    out, cache = fast_layers.max_pool_forward_fast(x, param)
    size = float(x.itemsize * (x.size + out.size) + out.size)
    if backward:
        return lambda: fast_layers.max_pool_backward_fast(out, cache), size, 0
    return lambda: fast_layers.max_pool_forward_fast(x, param), size, 0


def batchnorm(shape: Shape, reads: int, *, backward: bool) -> Row:
    """Spatial batch normalisation in train mode; ``reads`` says how often its input comes from memory."""
    x, gamma, beta = normal(*shape), normal(shape[1]), normal(shape[1])
    out, cache = spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
    if backward:
        return lambda: spatial_batchnorm_backward(out, cache), (2 * reads + 1) * 4.0 * x.size, 0
    return lambda: spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"}), (reads + 1) * 4.0 * x.size, 0


def softmax(count: int) -> Row:
    """Loss and gradient."""
    scores, labels = normal(count, 10), classes(count)
    return lambda: softmax_loss(scores, labels), 2 * 4.0 * scores.size + 8.0 * count, 0


def update(rule: str, size: int) -> Row:
    """One step of an update rule, in place."""
    params, grads = {"w": normal(size)}, {"w": normal(size)}
    states = {"w": zeros(params["w"], *UPDATE_RULES[rule].states)}
    configs: dict[str, dict[str, Any]] = {"w": dict(states["w"])}
    arrays = 3 + 2 * len(states["w"])
    return lambda: step_all(rule, params, grads, configs, params, states), arrays * 4.0 * size, 0


def network() -> ThreeLayerConvNet:
    """Return the course's network for CIFAR-10."""
    return ThreeLayerConvNet(weight_scale=1e-2, rng=0)


def step_flops(batch: int) -> float:
    """Return the operations of loss and gradients of the course's network, whose first layer needs no dx."""
    return 2.0 * batch * (2 * 32 * 1024 * 147 + 3 * 8192 * 100 + 3 * 1000)


def data_set(train: int, val: int) -> dict[str, Any]:
    """Return random images and labels on the backend."""
    images = {"X_train": normal(train, 3, 32, 32), "X_val": normal(val, 3, 32, 32)}
    return {**images, "y_train": classes(train), "y_val": classes(val)}


def step(batch: int) -> Row:
    """Loss, gradients and Adam on every parameter, in place, on minibatches that change."""
    model = network()
    images, labels = normal(20 * batch, 3, 32, 32), classes(20 * batch)
    turns = cycle([(images[i : i + batch], labels[i : i + batch]) for i in range(0, 20 * batch, batch)])
    states = {name: zeros(w, "m", "v") for name, w in model.params.items()}
    configs = {name: {**ADAM, **states[name]} for name in model.params}

    def work() -> None:
        _, grads = model.loss(*next(turns))
        configs.update(step_all("adam", model.params, grads, configs, model.params, states))

    return work, 0, step_flops(batch)


def training_step(batch: int, images: int, graph: bool) -> Row:
    """A step of a training: a minibatch of the data set on the device, and beside the parameters what they become."""
    backend, model = get_backend(), network()
    optimizer = Optimizer("adam", ADAM, (), model.params)
    run = Run(model, Draws(np.random.default_rng(0), batch, "replacement", None), optimizer.configs())
    parts = run, Batches(data_set(images, 1), None), optimizer, Hooks((), 1.0), ENDLESS
    steps: Steps
    if backend.name == "gpu":
        steps = GraphSteps(*parts, backend, True) if graph else DeviceSteps(*parts, backend)
    elif graph:
        raise ValueError(f"training_step: graph must be False where the backend has none; got True on {backend.name}")
    else:
        steps = HostSteps(*parts)

    def work() -> None:
        steps.step((), lambda: ENDLESS)

    for _ in range(4):  # past those before a graph, and its capture
        work()
    return work, 0, step_flops(batch)


def epoch(images: int, batch: int, checked: int) -> Row:
    """One epoch of the Solver, with accuracy checks at its ends on so many images of each kind."""
    return _trained(network(), data_set(images, checked), batch, checked)


def cifar10_epoch() -> Row:
    """One epoch of CIFAR-10 at batch 50 with hidden_dim=500, accuracy checks on one image only."""
    from gconv.benchmarking.cifar10 import images_and_labels

    images, labels = images_and_labels()
    data = {"X_train": images, "y_train": labels, "X_val": images[:1], "y_val": labels[:1]}
    return _trained(ThreeLayerConvNet(weight_scale=1e-3, hidden_dim=500, rng=0), data, 50, 1)


def _trained(model: ThreeLayerConvNet, data: dict[str, Any], batch: int, checked: int) -> Row:
    options: dict[str, Any] = {"update_rule": "adam", "optim_config": ADAM, "num_epochs": 1, "verbose": False}
    solver = Solver(model, data, batch_size=batch, num_train_samples=checked, seed=0, **options)
    return lambda: solver.train(1), 0, 0


def elsewhere(backend: str, make: Callable[[], Row]) -> Row:
    """A row on a backend of its own, next to those of the device; their ceilings are not its own."""
    with use_backend(backend):
        work, _, _ = make()

    def there() -> None:
        with use_backend(backend):
            work()

    return there, 0, 0


def both_ways(name: str, make: Callable[..., Row], *arguments: Any) -> Rows:
    """Return a row forward and a row backward; the name has {} where the way stands."""
    return {name.format(way): partial(make, *arguments, backward=way == "backward") for way in ("forward", "backward")}


def rows(shrink: int = 1) -> Rows:
    """Return every row of a CPU by name; ``shrink`` divides the batch of the course's convolution, for the loops."""
    found: Rows = {
        "ceiling: float32 product": partial(product, "float32", CPU.product),
        "ceiling: float64 product": partial(product, "float64", CPU.product),
        "ceiling: copy": partial(copy, CPU.copied),
    }
    for batch in CPU.steps:
        found[f"step, batch {batch}"] = partial(step, batch)
    images, batch, _ = CPU.epoch
    found[f"solver, {images:,} images, batch {batch}"] = partial(epoch, *CPU.epoch)
    seed = (fewer(SEED[0], shrink), *SEED[1:])
    for dtype in ("float64", "float32"):
        for method in ("fast", "im2col", "strides"):
            suffix = "" if method == "fast" else f" [{method}]"
            found |= both_ways(f"seed conv {dtype} {{}}{suffix}", convolution, seed, dtype, method)
    for name, shape in CPU.convolutions.items():
        found |= both_ways(f"conv {name} {{}}", convolution, shape, "float32", "fast", CPU.sets)
        found |= both_ways(f"conv {name} {{}} [im2col]", convolution, shape, "float32", "im2col", CPU.sets)
    found["conv-ReLU-pool first layer forward"] = partial(first_layer_fused, backward=False)
    found["conv-ReLU-pool first layer backward without dx"] = partial(first_layer_fused, backward=True)
    for window in (2, 3):
        for dtype in ("float64", "float32"):
            found |= both_ways(f"max pool {window}x{window} {dtype} {{}}", pool, CPU.pooled, window, dtype)
    found |= both_ways(f"batchnorm {CPU.normalised} {{}}", batchnorm, CPU.normalised, CPU.reads)
    found[f"softmax loss {CPU.scores}x10"] = partial(softmax, CPU.scores)
    found[f"adam, {CPU.updated:,} values"] = partial(update, "adam", CPU.updated)
    found |= both_ways("max pool 2x2 of 1 GB {}", pool, (4096, 64, 32, 32), 2)
    found["adam, 128,000,000 values"] = partial(update, "adam", 128_000_000)
    found["CIFAR-10, one epoch, batch 50"] = cifar10_epoch
    return found


def gpu_rows(shrink: int = 1) -> Rows:
    """Return every row of a GPU by name; ``shrink`` divides batches and sizes, to try the command without a device."""
    found: Rows = {
        "ceiling: copy": partial(copy, GPU.copied // shrink),
        "ceiling: float32 product": partial(product, "float32", GPU.product // shrink),
    }
    images, batch, checked = GPU.epoch
    for size in GPU.steps:
        for graph in (True, False):
            name = f"step, batch {size}, {'graph' if graph else 'no graph'}"
            found[name] = partial(training_step, max(size // shrink, 2), images // shrink, graph)
    name = f"epoch, {images:,} images, batch {batch}"
    found[name] = partial(epoch, images // shrink, batch, max(checked // shrink, 1))
    for name, (x, *rest) in GPU.convolutions.items():
        shape = (fewer(x, shrink), *rest)
        found |= both_ways(f"conv {{}}: {name}", convolution, shape, "float32", "fast", GPU.sets)
    for window in (2, 3):
        found |= both_ways(f"max pool {window}x{window} stride 2 {{}}", pool, fewer(GPU.pooled, shrink), window)
    found |= both_ways("batchnorm {}", batchnorm, fewer(GPU.normalised, shrink), GPU.reads)
    found[f"softmax loss, {GPU.scores:,} x 10"] = partial(softmax, GPU.scores // shrink)
    for rule in ("sgd", "sgd_momentum", "rmsprop", "adam"):
        found[f"{rule}, {GPU.updated:,} values"] = partial(update, rule, GPU.updated // shrink)
    course = (fewer(SEED[0], 10), *SEED[1:])
    for backward in (False, True):
        for backend in ("naive", "cpu", "gpu"):
            name = f"course's conv {'backward' if backward else 'forward'}, batch {course[0][0]}, {backend}"
            found[name] = partial(elsewhere, backend, partial(convolution, course, backward=backward))
    return found
