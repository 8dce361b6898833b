"""What is timed of gconv, on the backend that GCONV_BACKEND selects."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from gconv import __version__, fast_layers
from gconv._updates import step_all
from gconv.backends import get_backend
from gconv.backends.threads import get_num_threads
from gconv.benchmarking.shapes import BATCHES, CONVOLUTIONS, POOLED, SEED, Convolution
from gconv.classifiers import ThreeLayerConvNet
from gconv.layer_utils import conv_relu_pool_backward, conv_relu_pool_forward
from gconv.layers import softmax_loss, spatial_batchnorm_backward, spatial_batchnorm_forward
from gconv.solver import Solver

__all__ = ["prepare", "rows", "synchronize", "versions"]

Row = tuple[Callable[[], Any], float, float]
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


def prepare() -> None:
    """Do nothing: the environment selects the backend."""


def synchronize() -> None:
    """Wait for the device, if there is one."""
    get_backend().synchronize()


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    found = {"gconv": __version__, "numpy": np.__version__, "threads": str(get_num_threads())}
    from gconv.backends.cpu import kernels

    return {**found, "SIMD": kernels.simd_level()} if kernels else found


def normal(*shape: int, dtype: str = "float32", scale: float = 1.0) -> Any:
    """Return the same random values each time, on the backend."""
    values = np.random.default_rng(0).standard_normal(shape, dtype=dtype)  # type: ignore[call-overload]
    return get_backend().asarray(values * np.asarray(scale, dtype))


def zeros(w: Any, *names: str) -> dict[str, Any]:
    """Return an update rule's states of a parameter before its first step."""
    return {name: get_backend(w).xp.zeros(w.shape, w.dtype) for name in names}


def convolution(shape: Convolution, backward: bool, dtype: str = "float32", method: str = "fast") -> Row:
    """A convolution, or its gradients with dx."""
    x_shape, w_shape, stride, pad = shape
    forward_of, backward_of = (getattr(fast_layers, f"conv_{way}_{method}") for way in ("forward", "backward"))
    x, w, b = normal(*x_shape, dtype=dtype), normal(*w_shape, dtype=dtype, scale=0.05), normal(w_shape[0], dtype=dtype)
    param = {"stride": stride, "pad": pad}
    out, cache = forward_of(x, w, b, param)
    size, flops = float(x.itemsize * (x.size + w.size + out.size)), 2.0 * out.size * math.prod(w_shape[1:])
    if backward:
        return lambda: backward_of(out, cache), 2 * size, 2 * flops
    return lambda: forward_of(x, w, b, param), size, flops


def first_layer_fused(backward: bool) -> Row:
    """Convolution, ReLU and 2x2 pooling of the first layer; backwards without dx, which nobody needs."""
    x_shape, w_shape, stride, pad = CONVOLUTIONS["first layer"]
    x, w, b = normal(*x_shape), normal(*w_shape, scale=0.05), normal(w_shape[0])
    param = {"stride": stride, "pad": pad}
    out, cache = conv_relu_pool_forward(x, w, b, param, POOL)
    flops = 2.0 * 4 * out.size * math.prod(w_shape[1:])
    if backward:
        return lambda: conv_relu_pool_backward(out, cache, input_grad=False), 0, flops
    return lambda: conv_relu_pool_forward(x, w, b, param, POOL), 0, flops


def step(batch: int) -> Row:
    """Loss, gradients and Adam on every parameter, in place, on minibatches that change."""
    model = ThreeLayerConvNet(weight_scale=1e-2, rng=0)
    images, labels = normal(20 * batch, 3, 32, 32), get_backend().asarray(np.arange(20 * batch) % 10)
    turns = cycle([(images[i : i + batch], labels[i : i + batch]) for i in range(0, 20 * batch, batch)])
    states = {name: zeros(w, "m", "v") for name, w in model.params.items()}
    configs: dict[str, dict[str, Any]] = {name: {"learning_rate": 1e-3, **states[name]} for name in model.params}

    def work() -> None:
        _, grads = model.loss(*next(turns))
        configs.update(step_all("adam", model.params, grads, configs, model.params, states))

    return work, 0, 2.0 * batch * (2 * 32 * 1024 * 147 + 3 * 8192 * 100 + 3 * 1000)


def solver(images: int, batch: int) -> Row:
    """One epoch of the Solver, with accuracy checks on one image only."""
    x, y = normal(images, 3, 32, 32), get_backend().asarray(np.arange(images) % 10)
    data = {"X_train": x, "y_train": y, "X_val": x[:1], "y_val": y[:1]}
    options: dict[str, Any] = {"update_rule": "adam", "optim_config": {"learning_rate": 1e-3}, "verbose": False}
    model = ThreeLayerConvNet(weight_scale=1e-2, rng=0)
    made = Solver(model, data, batch_size=batch, num_epochs=1, num_train_samples=1, seed=0, **options)
    return lambda: made.train(1), 0, 0


def pool(shape: tuple[int, ...], window: int, backward: bool, dtype: str = "float32") -> Row:
    """Max pooling with stride 2."""
    x, param = normal(*shape, dtype=dtype), {"pool_height": window, "pool_width": window, "stride": 2}
    out, cache = fast_layers.max_pool_forward_fast(x, param)
    size = float(x.itemsize * (x.size + out.size) + out.size)
    if backward:
        return lambda: fast_layers.max_pool_backward_fast(out, cache), size, 0
    return lambda: fast_layers.max_pool_forward_fast(x, param), size, 0


def batchnorm(backward: bool) -> Row:
    """Spatial batch normalisation in train mode."""
    x, gamma, beta = normal(50, 64, 32, 32), normal(64), normal(64)
    out, cache = spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
    if backward:
        return lambda: spatial_batchnorm_backward(out, cache), 3 * 4.0 * x.size, 0
    return lambda: spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"}), 2 * 4.0 * x.size, 0


def softmax() -> Row:
    """Loss and gradient."""
    scores, labels = normal(200, 10), get_backend().asarray(np.arange(200) % 10)
    return lambda: softmax_loss(scores, labels), 0, 0


def adam(size: int) -> Row:
    """One step of Adam, in place."""
    params, grads = {"w": normal(size)}, {"w": normal(size)}
    states = {"w": zeros(params["w"], "m", "v")}
    configs: dict[str, dict[str, Any]] = {"w": {"learning_rate": 1e-3, **states["w"]}}
    return lambda: step_all("adam", params, grads, configs, params, states), 7 * 4.0 * size, 0


def product(dtype: str) -> Row:
    """The rate that the machine has: the best square product of NumPy's BLAS."""
    n = 2048
    a, b = normal(n, n, dtype=dtype), normal(n, n, dtype=dtype)
    return lambda: a @ b, 0, 2.0 * n**3


def copy() -> Row:
    """The bandwidth that the machine has: 1 GB copied, an equal part by each thread."""
    source = np.ones(1 << 28, np.float32)
    target = np.empty_like(source)
    parts = np.array_split(np.arange(0, source.size + 1, source.size // 64), get_num_threads())

    def copy_part(part: Any) -> None:
        target[part[0] : part[-1]] = source[part[0] : part[-1]]

    def work() -> None:
        threads = [threading.Thread(target=copy_part, args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return work, 8.0 * source.size, 0


def cifar10_epoch() -> Row:
    """One epoch of CIFAR-10 at batch 50 with hidden_dim=500, accuracy checks on one image only."""
    from gconv.benchmarking.cifar10 import images_and_labels

    images, labels = images_and_labels()
    model = ThreeLayerConvNet(weight_scale=1e-3, hidden_dim=500, rng=0)
    data = {"X_train": images, "y_train": labels, "X_val": images[:1], "y_val": labels[:1]}
    options: dict[str, Any] = {"update_rule": "adam", "optim_config": {"learning_rate": 1e-3}, "verbose": False}
    made = Solver(model, data, batch_size=50, num_epochs=1, num_train_samples=1, seed=0, **options)
    return lambda: made.train(1), 0, 0


def rows(shrink: int = 1) -> dict[str, Callable[[], Row]]:
    """Return every row by name; ``shrink`` divides the batch of the course's convolution, for the naive loops."""
    found: dict[str, Callable[[], Row]] = {
        "ceiling: float32 product": lambda: product("float32"),
        "ceiling: float64 product": lambda: product("float64"),
        "ceiling: copy": copy,
    }
    for batch in BATCHES:
        found[f"step, batch {batch}"] = partial(step, batch)
    found["solver, 3,000 images, batch 50"] = lambda: solver(3000, 50)
    seed = ((SEED[0][0] // shrink, *SEED[0][1:]), *SEED[1:])
    for dtype in ("float64", "float32"):
        for backward in (False, True):
            name = f"seed conv {dtype} {'backward' if backward else 'forward'}"
            for method in ("fast", "im2col", "strides"):
                row = name if method == "fast" else f"{name} [{method}]"
                found[row] = partial(convolution, seed, backward, dtype, method)
    for name, shape in CONVOLUTIONS.items():
        for backward in (False, True):
            row = f"conv {name} {'backward' if backward else 'forward'}"
            found[row] = partial(convolution, shape, backward)
            found[f"{row} [im2col]"] = partial(convolution, shape, backward, method="im2col")
    for backward in (False, True):
        row = f"conv-ReLU-pool first layer {'backward without dx' if backward else 'forward'}"
        found[row] = partial(first_layer_fused, backward)
    for window in (2, 3):
        for dtype in ("float64", "float32"):
            for backward in (False, True):
                row = f"max pool {window}x{window} {dtype} {'backward' if backward else 'forward'}"
                found[row] = partial(pool, POOLED, window, backward, dtype)
    for backward in (False, True):
        row = f"batchnorm (50, 64, 32, 32) {'backward' if backward else 'forward'}"
        found[row] = partial(batchnorm, backward)
    found["softmax loss 200x10"] = softmax
    found["adam, 824,000 values"] = lambda: adam(824_000)
    for backward in (False, True):
        row = f"max pool 2x2 of 1 GB {'backward' if backward else 'forward'}"
        found[row] = partial(pool, (4096, 64, 32, 32), 2, backward)
    found["adam, 128,000,000 values"] = lambda: adam(128_000_000)
    found["CIFAR-10, one epoch, batch 50"] = cifar10_epoch
    return found
