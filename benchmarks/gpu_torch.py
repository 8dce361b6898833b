"""The same rows by PyTorch eager, cuDNN in benchmark mode, TF32 off, and the training steps with TF32 as well."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as functional

from gconv.benchmarking.shapes import GPU

Row = tuple[Callable[[], Any], float, float]


def prepare() -> None:
    """Set precision and cuDNN's search."""
    torch.backends.cudnn.benchmark = True
    _tf32(False)
    torch.manual_seed(0)


def _tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def normal(*shape: int) -> torch.Tensor:
    """Return float32 values on the device."""
    return torch.randn(*shape, device="cuda")


def convolution(name: str, backward: bool) -> Row:
    x_shape, w_shape, stride, pad = GPU.convolutions[name]
    inputs = [normal(*x_shape).requires_grad_(backward) for _ in range(GPU.sets)]
    w, b = (normal(*shape).mul_(0.05).requires_grad_(backward) for shape in (w_shape, w_shape[:1]))
    turns = cycle(inputs)
    if not backward:
        return lambda: functional.conv2d(next(turns), w, b, stride=stride, padding=pad), 0, 0
    outs = cycle([(functional.conv2d(x, w, b, stride=stride, padding=pad), x) for x in inputs])
    dout = normal(*functional.conv2d(inputs[0], w, b, stride=stride, padding=pad).shape)

    def work() -> None:
        out, x = next(outs)
        torch.autograd.grad(out, (x, w, b), dout, retain_graph=True)

    return work, 0, 0


class Network(torch.nn.Module):
    """The course's three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 32, 7, padding=3)
        self.hidden, self.last = torch.nn.Linear(8192, 100), torch.nn.Linear(100, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        pooled = functional.max_pool2d(functional.relu(self.conv(x)), 2)
        return self.last(functional.relu(self.hidden(pooled.flatten(1))))


def step(batch: int, fused: bool, tf32: bool) -> Row:
    """Indexing, loss, gradients and Adam, eager."""
    images = GPU.epoch[0]
    data, labels = normal(images, 3, 32, 32), torch.randint(10, (images,), device="cuda")
    model = Network().cuda()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def work() -> None:
        _tf32(tf32)
        chosen = torch.randint(images, (batch,), device="cuda")
        loss = functional.cross_entropy(model(data[chosen]), labels[chosen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        _tf32(False)

    return work, 0, 0


def pool(window: int, backward: bool) -> Row:
    x = normal(*GPU.pooled).requires_grad_(backward)
    out = functional.max_pool2d(x, window, 2)
    if not backward:
        return lambda: functional.max_pool2d(x, window, 2), 0, 0
    dout = normal(*out.shape)
    return lambda: torch.autograd.grad(out, x, dout, retain_graph=True), 0, 0


def batchnorm(backward: bool) -> Row:
    shape = GPU.normalised
    x, weight, bias = (normal(*s).requires_grad_(backward) for s in (shape, shape[1:2], shape[1:2]))
    out = functional.batch_norm(x, None, None, weight, bias, training=True)
    if not backward:
        return lambda: functional.batch_norm(x, None, None, weight, bias, training=True), 0, 0
    dout = normal(*out.shape)
    return lambda: torch.autograd.grad(out, (x, weight, bias), dout, retain_graph=True), 0, 0


def softmax() -> Row:
    scores = normal(GPU.scores, 10).requires_grad_()
    labels = torch.arange(GPU.scores, device="cuda") % 10
    return lambda: torch.autograd.grad(functional.cross_entropy(scores, labels), scores), 0, 0


def optimiser(rule: str) -> Row:
    w = torch.nn.Parameter(normal(GPU.updated))
    w.grad = normal(GPU.updated)
    made = {
        "sgd": lambda: torch.optim.SGD([w], fused=True),
        "sgd_momentum": lambda: torch.optim.SGD([w], momentum=0.9, fused=True),
        "rmsprop": lambda: torch.optim.RMSprop([w]),
        "adam": lambda: torch.optim.Adam([w], fused=True),
    }[rule]()
    return made.step, 0, 0


def product(tf32: bool) -> Row:
    n = GPU.product
    a, b = normal(n, n), normal(n, n)

    def work() -> None:
        _tf32(tf32)
        torch.matmul(a, b)
        _tf32(False)

    return work, 0, 2.0 * n**3


def rows(shrink: int = 1) -> dict[str, Callable[[], Row]]:
    """Return rows by the names of gconv.benchmarking.rows; several variants of one have a suffix in brackets."""
    found: dict[str, Callable[[], Row]] = {
        "ceiling: float32 product": lambda: product(False),
        "ceiling: float32 product [TF32]": lambda: product(True),
    }
    for batch in GPU.steps:
        for fused in (False, True):
            for tf32 in (False, True):
                name = f"step, batch {batch} [{'fused Adam' if fused else 'Adam'}{', TF32' if tf32 else ''}]"
                found[name] = lambda batch=batch, fused=fused, tf32=tf32: step(batch, fused, tf32)
    for name in GPU.convolutions:
        for backward in (False, True):
            row = f"conv {'backward' if backward else 'forward'}: {name}"
            found[row] = lambda name=name, backward=backward: convolution(name, backward)
    for window in (2, 3):
        for backward in (False, True):
            row = f"max pool {window}x{window} stride 2 {'backward' if backward else 'forward'}"
            found[row] = lambda window=window, backward=backward: pool(window, backward)
    for backward in (False, True):
        found[f"batchnorm {'backward' if backward else 'forward'}"] = lambda backward=backward: batchnorm(backward)
    found[f"softmax loss, {GPU.scores:,} x 10"] = softmax
    for rule in ("sgd", "sgd_momentum", "rmsprop", "adam"):
        found[f"{rule}, {GPU.updated:,} values"] = lambda rule=rule: optimiser(rule)
    return found


def synchronize() -> None:
    """Wait for the device."""
    torch.cuda.synchronize()


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    return {"torch": torch.__version__, "cudnn": str(torch.backends.cudnn.version())}


def event() -> torch.cuda.Event:
    """Return a CUDA event at the end of what is queued."""
    recorded = torch.cuda.Event(enable_timing=True)
    recorded.record()
    return recorded


def elapsed(begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
    """Return milliseconds between two events, once the second has happened."""
    end.synchronize()
    return float(begin.elapsed_time(end))
