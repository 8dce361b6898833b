"""The same rows by PyTorch eager, with as many threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as functional

from gconv.backends.threads import get_num_threads
from gconv.benchmarking.shapes import CPU, SEED, Convolution, Shape, fewer

__all__ = ["prepare", "rows", "synchronize", "versions"]

Row = tuple[Callable[[], Any], float, float]


def prepare() -> None:
    """Set the threads and the seed."""
    torch.set_num_threads(get_num_threads())
    torch.manual_seed(0)


def synchronize() -> None:
    """Do nothing: the CPU computes before it returns."""


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    return {"torch": torch.__version__, "torch threads": str(torch.get_num_threads())}


def gradients(out: Any, inputs: tuple[Any, ...]) -> Row:
    dout = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, inputs, dout, retain_graph=True), 0, 0


def without_graph(function: Callable[[], Any]) -> Row:
    def work() -> None:
        with torch.no_grad():
            function()

    return work, 0, 0


def convolution(shape: Convolution, backward: bool, dtype: Any = torch.float32) -> Row:
    x_shape, w_shape, stride, pad = shape
    x, w, b = (torch.randn(*s, dtype=dtype, requires_grad=True) for s in (x_shape, w_shape, w_shape[:1]))
    if backward:
        return gradients(functional.conv2d(x, w, b, stride=stride, padding=pad), (x, w, b))
    return without_graph(lambda: functional.conv2d(x, w, b, stride=stride, padding=pad))


def first_layer_fused(backward: bool) -> Row:
    x_shape, w_shape, stride, pad = CPU.convolutions["first layer"]
    x = torch.randn(*x_shape)
    w, b = (torch.randn(*s, requires_grad=True) for s in (w_shape, w_shape[:1]))

    def forward() -> Any:
        return functional.max_pool2d(functional.relu(functional.conv2d(x, w, b, stride=stride, padding=pad)), 2)

    return gradients(forward(), (w, b)) if backward else without_graph(forward)


class Network(torch.nn.Module):
    """The course's three layers."""

    def __init__(self, hidden: int = 100) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 32, 7, padding=3)
        self.hidden, self.last = torch.nn.Linear(8192, hidden), torch.nn.Linear(hidden, 10)

    def forward(self, x: Any) -> Any:
        """Return the scores."""
        pooled = functional.max_pool2d(functional.relu(self.conv(x)), 2)
        return self.last(functional.relu(self.hidden(pooled.flatten(1))))


def trainer(fused: bool, hidden: int = 100) -> Callable[[Any, Any], None]:
    """Return a function that does a step on images and labels."""
    model = Network(hidden)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def step(images: Any, labels: Any) -> None:
        loss = functional.cross_entropy(model(images), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def step(batch: int, fused: bool) -> Row:
    train, images, labels = trainer(fused), torch.randn(20 * batch, 3, 32, 32), torch.arange(20 * batch) % 10
    turns = cycle([(images[i : i + batch], labels[i : i + batch]) for i in range(0, 20 * batch, batch)])
    return lambda: train(*next(turns)), 0, 0


def loop(images: Any, labels: Any, batch: int, fused: bool, hidden: int = 100) -> Row:
    """The plain loop over an epoch, with indexing."""
    train = trainer(fused, hidden)

    def work() -> None:
        for _ in range(len(images) // batch):
            chosen = torch.randint(len(images), (batch,))
            train(images[chosen], labels[chosen])

    return work, 0, 0


def solver(images: int, batch: int, fused: bool) -> Row:
    return loop(torch.randn(images, 3, 32, 32), torch.arange(images) % 10, batch, fused)


def cifar10_epoch(fused: bool) -> Row:
    from gconv.benchmarking.cifar10 import images_and_labels

    images, labels = images_and_labels()
    return loop(torch.from_numpy(images), torch.from_numpy(labels), 50, fused, hidden=500)


def pool(shape: Shape, window: int, backward: bool, dtype: Any = torch.float32) -> Row:
    x = torch.randn(*shape, dtype=dtype, requires_grad=True)
    if backward:
        return gradients(functional.max_pool2d(x, window, 2), (x,))
    return without_graph(lambda: functional.max_pool2d(x, window, 2))


def batchnorm(backward: bool) -> Row:
    shape = CPU.normalised
    x, weight, bias = (torch.randn(*s, requires_grad=True) for s in (shape, shape[1:2], shape[1:2]))
    if backward:
        return gradients(functional.batch_norm(x, None, None, weight, bias, training=True), (x, weight, bias))
    return without_graph(lambda: functional.batch_norm(x, None, None, weight, bias, training=True))


def softmax() -> Row:
    scores, labels = torch.randn(CPU.scores, 10, requires_grad=True), torch.arange(CPU.scores) % 10
    return lambda: torch.autograd.grad(functional.cross_entropy(scores, labels), scores), 0, 0


def adam(size: int, fused: bool) -> Row:
    w = torch.nn.Parameter(torch.randn(size))
    w.grad = torch.randn(size)
    return torch.optim.Adam([w], fused=fused).step, 0, 0


def rows(shrink: int = 1) -> dict[str, Callable[[], Row]]:
    """Return rows by the names of gconv.benchmarking.rows; several variants of one have a suffix in brackets."""
    found: dict[str, Callable[[], Row]] = {}
    adams = {"Adam": False, "fused Adam": True}
    for batch in CPU.steps:
        for name, fused in adams.items():
            found[f"step, batch {batch} [{name}]"] = partial(step, batch, fused)
    images, batch, _ = CPU.epoch
    for name, fused in adams.items():
        found[f"solver, {images:,} images, batch {batch} [{name}]"] = partial(solver, images, batch, fused)
        found[f"CIFAR-10, one epoch, batch 50 [{name}]"] = partial(cifar10_epoch, fused)
        for size in (CPU.updated, 128_000_000):
            found[f"adam, {size:,} values [{name}]"] = partial(adam, size, fused)
    seed = (fewer(SEED[0], shrink), *SEED[1:])
    for backward in (False, True):
        way = "backward" if backward else "forward"
        for dtype in (torch.float64, torch.float32):
            name = str(dtype).removeprefix("torch.")
            found[f"seed conv {name} {way}"] = partial(convolution, seed, backward, dtype)
            for window in (2, 3):
                row = f"max pool {window}x{window} {name} {way}"
                found[row] = partial(pool, CPU.pooled, window, backward, dtype)
        for layer, shape in CPU.convolutions.items():
            found[f"conv {layer} {way}"] = partial(convolution, shape, backward)
        fused_way = "backward without dx" if backward else "forward"
        found[f"conv-ReLU-pool first layer {fused_way}"] = partial(first_layer_fused, backward)
        found[f"batchnorm {CPU.normalised} {way}"] = partial(batchnorm, backward)
        found[f"max pool 2x2 of 1 GB {way}"] = partial(pool, (4096, 64, 32, 32), 2, backward)
    found[f"softmax loss {CPU.scores}x10"] = softmax
    return found
