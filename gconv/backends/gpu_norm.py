"""Normalisation, losses and dropout on CuPy arrays."""

from __future__ import annotations

import cupy
import numpy as np

from gconv._typing import Array
from gconv.backends.activations import activate, activation_code
from gconv.backends.compositions import Compositions
from gconv.backends.cuda_module import launch
from gconv.backends.gpu_conv import BLOCK, ready
from gconv.backends.gpu_plan import FEW_CLASSES, GATHER_BLOCKS, LARGE_PLANE, blocks_for, channel_parts

__all__ = ["GpuNormalisation"]


class GpuNormalisation(Compositions):
    """The part of GpuBackend whose work is sums over rows and channels."""

    def batchnorm_train(
        self, x: Array, gamma: Array, beta: Array, eps: float, activation: str | None = None
    ) -> tuple[Array, Array, Array]:
        """Merge Welford's moments of parts of each channel, then normalise: x is read twice, written once."""
        activation_code("batchnorm_train", activation)
        x, (n, c, p) = ready(x), x.shape
        by_images, parts, chunk = channel_parts(n, c, p)
        moments = cupy.empty((parts, c, 3), x.dtype)
        mean, var = cupy.empty(c, x.dtype), cupy.empty(c, x.dtype)
        _channels("batchnorm", "batchnorm_moments", by_images, parts, x, moments, n, c, p, chunk)
        launch("batchnorm", "batchnorm_statistics", x.dtype, (blocks_for(c),), BLOCK, moments, mean, var, c, parts)
        return self.batchnorm_test(x, gamma, beta, mean, var, eps, activation), mean, var

    def batchnorm_test(
        self, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float, activation: str | None = None
    ) -> Array:
        """Normalise value by value."""
        out = cupy.empty(x.shape, x.dtype)
        if out.size:
            arrays = (*(ready(a) for a in (x, gamma, beta, mean, var)), out)
            _planes("batchnorm", "batchnorm_forward", *arrays, *x.shape, float(eps))
        return activate("batchnorm_test", cupy, out, activation)

    def batchnorm_backward(
        self,
        dout: Array,
        x: Array,
        gamma: Array,
        mean: Array,
        var: Array,
        eps: float,
        activation: str | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """Sum dout and dout * x_hat over parts of each channel, then gather them for every value."""
        if activation_code("batchnorm_backward", activation):
            dout = self.relu_backward(dout, out)
        dout, x, gamma, mean, var = (ready(a) for a in (dout, x, gamma, mean, var))
        dgamma, dbeta = _parameter_gradients("batchnorm", dout, x, mean, var, 0, eps)
        dx = cupy.empty(x.shape, x.dtype)
        arrays = dout, x, gamma, mean, var, dgamma, dbeta, dx
        _planes("batchnorm", "batchnorm_input_gradient", *arrays, *x.shape, float(eps))
        return dx, dgamma, dbeta

    def groupnorm_forward(
        self, x: Array, gamma: Array, beta: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """Give each group of a sample a block."""
        x, (n, c, p) = ready(x), x.shape
        out, mean, var = (cupy.empty(shape, x.dtype) for shape in (x.shape, (n, groups), (n, groups)))
        arrays = x, ready(gamma), ready(beta), out, mean, var
        blocks, block = _rows(n * groups, c // groups * p)
        launch("groupnorm", "groupnorm_forward", x.dtype, blocks, block, *arrays, n, c, p, groups, float(eps))
        return out, mean, var

    def groupnorm_backward(
        self, dout: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """Give each group of a sample a block; the parameters' gradients are sums over channels."""
        dout, x, gamma, mean, var = (ready(a) for a in (dout, x, gamma, mean, var))
        n, c, p = x.shape
        dgamma, dbeta = _parameter_gradients("groupnorm", dout, x, mean, var, groups, eps)
        dx = cupy.empty(x.shape, x.dtype)
        blocks, block = _rows(n * groups, c // groups * p)
        arrays = dout, x, gamma, mean, var, dx
        launch("groupnorm", "groupnorm_input_gradient", x.dtype, blocks, block, *arrays, n, c, p, groups, float(eps))
        return dx, dgamma, dbeta

    def softmax_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Give each sample a thread or a block; a label outside [0, C) makes the loss NaN."""
        return _loss("softmax_loss", x, y)

    def svm_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Give each sample a thread or a block; a label outside [0, C) makes the loss NaN."""
        return _loss("svm_loss", x, y)

    def dropout_forward(self, x: Array, keep: Array, p: float) -> tuple[Array, Array]:
        """Move one byte a value to the device, the mask is made there."""
        x, keep = ready(x), cupy.asarray(keep.view(np.uint8))
        out, mask = cupy.empty(x.shape, x.dtype), cupy.empty(x.shape, x.dtype)
        if x.size:
            sizes = x.size, 1 / p
            launch("dropout", "dropout_forward", x.dtype, (blocks_for(x.size),), BLOCK, x, keep, out, mask, *sizes)
        return out, mask


def _channels(file: str, operation: str, by_images: bool, parts: int, first: Array, *arguments: Array | int) -> None:
    c = first.shape[1]
    if by_images:
        launch(file, f"{operation}_images", first.dtype, (c, parts), BLOCK, first, *arguments)
    else:
        launch(file, f"{operation}_vectors", first.dtype, (-(-c // 32), parts), (32, 8), first, *arguments)


def _planes(file: str, operation: str, first: Array, *arguments: Array | float) -> None:
    """Launch a map over (N, C, P): a block a plane where planes are large, else a thread a value."""
    n, c, p = first.shape
    if p >= LARGE_PLANE:
        blocks, block = _rows(n * c, p)
        launch(file, f"{operation}_images", first.dtype, blocks, block, first, *arguments)
    else:
        launch(file, f"{operation}_vectors", first.dtype, (blocks_for(first.size),), BLOCK, first, *arguments)


def _parameter_gradients(
    file: str, dout: Array, x: Array, mean: Array, var: Array, groups: int, eps: float
) -> tuple[Array, Array]:
    n, c, p = x.shape
    by_images, parts, chunk = channel_parts(n, c, p)
    sums = cupy.empty((parts, c, 2), x.dtype)
    dgamma, dbeta = cupy.empty(c, x.dtype), cupy.empty(c, x.dtype)
    sizes = n, c, p, groups, chunk, x.dtype.type(eps)
    _channels(file, f"{file}_sums", by_images, parts, dout, x, mean, var, sums, *sizes)
    launch(file, f"{file}_parameter_gradients", x.dtype, (blocks_for(c),), BLOCK, sums, dgamma, dbeta, c, parts)
    return dgamma, dbeta


def _rows(rows: int, size: int) -> tuple[tuple[int], tuple[int]]:
    """Return the grid and the block of a kernel whose blocks have a row each."""
    return (min(rows, GATHER_BLOCKS),), (min(256, -(-size // 32) * 32),)


def _loss(operation: str, x: Array, y: Array) -> tuple[Array, Array]:
    x, y, (n, c) = ready(x), ready(y.astype(np.int64, copy=False)), x.shape
    losses, dx, loss = cupy.empty(n, x.dtype), cupy.empty(x.shape, x.dtype), cupy.empty((), x.dtype)
    if c <= FEW_CLASSES:
        launch("losses", f"{operation}_few", x.dtype, (blocks_for(n, 64),), (64,), x, y, losses, dx, n, c)
    else:
        blocks, block = _rows(n, c)
        launch("losses", f"{operation}_many", x.dtype, blocks, block, x, y, losses, dx, n, c)
    launch("losses", "mean_loss", x.dtype, (1,), BLOCK, losses, loss, n)
    return loss, dx
