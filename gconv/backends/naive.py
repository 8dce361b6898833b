"""The definition of every operation, in plain loops: slow, general, what the other backends are tested against.

Nothing here shares code with another backend, and nothing is clever: an index in a formula is a loop.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gconv._typing import Array, Pair
from gconv.backends.base import argmax_dtype
from gconv.backends.compositions import Compositions

__all__ = ["NaiveBackend"]


def _padded(x: Array, pad: Pair) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))


def _out_size(size: int, field: int, stride: int, pad: int) -> int:
    places = 0
    while places * stride + field <= size + 2 * pad:
        places += 1
    return places


class NaiveBackend(Compositions):
    """Loops over NumPy arrays."""

    name = "naive"
    xp = np

    def asarray(self, x: Array, dtype: Any = None) -> Array:
        """Return ``x`` as a NumPy array."""
        return np.asarray(x, dtype=dtype)

    def to_numpy(self, x: Array) -> Array:
        """Return ``x`` itself."""
        return x

    def synchronize(self) -> None:
        """Do nothing: NumPy computes before it returns."""

    def warmup(self, dtype: str) -> None:
        """Do nothing: loops are not compiled."""

    def im2col(self, x: Array, field: Pair, stride: Pair, pad: Pair) -> Array:
        """Copy value by value."""
        n, c, h, w = x.shape
        out_h = _out_size(h, field[0], stride[0], pad[0])
        out_w = _out_size(w, field[1], stride[1], pad[1])
        padded = _padded(x, pad)
        cols = np.zeros((c * field[0] * field[1], n * out_h * out_w), x.dtype)
        column = 0
        for i in range(n):
            for y in range(out_h):
                for xx in range(out_w):
                    top, left = y * stride[0], xx * stride[1]
                    cols[:, column] = padded[i, :, top : top + field[0], left : left + field[1]].ravel()
                    column += 1
        return cols

    def col2im(self, cols: Array, x_shape: tuple[int, ...], field: Pair, stride: Pair, pad: Pair) -> Array:
        """Add each column to the window it belongs to."""
        n, c, h, w = x_shape
        out_h = _out_size(h, field[0], stride[0], pad[0])
        out_w = _out_size(w, field[1], stride[1], pad[1])
        padded = _padded(np.zeros(x_shape, cols.dtype), pad)
        column = 0
        for i in range(n):
            for y in range(out_h):
                for xx in range(out_w):
                    top, left = y * stride[0], xx * stride[1]
                    window = cols[:, column].reshape(c, field[0], field[1])
                    padded[i, :, top : top + field[0], left : left + field[1]] += window
                    column += 1
        return padded[:, :, pad[0] : pad[0] + h, pad[1] : pad[1] + w].copy()

    def conv_forward(self, x: Array, w: Array, b: Array, stride: Pair, pad: Pair, relu: bool = False) -> Array:
        """Multiply each window with each filter and add up."""
        n, _, h, width = x.shape
        f, _, hh, ww = w.shape
        out_h, out_w = _out_size(h, hh, stride[0], pad[0]), _out_size(width, ww, stride[1], pad[1])
        padded = _padded(x, pad)
        out = np.zeros((n, f, out_h, out_w), x.dtype)
        for i in range(n):
            for k in range(f):
                for y in range(out_h):
                    for xx in range(out_w):
                        top, left = y * stride[0], xx * stride[1]
                        window = padded[i, :, top : top + hh, left : left + ww]
                        out[i, k, y, xx] = np.sum(window * w[k]) + b[k]
        return self._positive(out, relu)

    def conv_backward(
        self, dout: Array, x: Array, w: Array, stride: Pair, pad: Pair, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Send each output gradient to its window, its filter and its bias."""
        n, f, out_h, out_w = dout.shape
        hh, ww = w.shape[2:]
        padded = _padded(x, pad)
        dpadded, dw, db = np.zeros_like(padded), np.zeros_like(w, order="C"), np.zeros(f, w.dtype)
        for i in range(n):
            for k in range(f):
                for y in range(out_h):
                    for xx in range(out_w):
                        top, left = y * stride[0], xx * stride[1]
                        gradient = dout[i, k, y, xx]
                        dw[k] += gradient * padded[i, :, top : top + hh, left : left + ww]
                        db[k] += gradient
                        if input_grad:
                            dpadded[i, :, top : top + hh, left : left + ww] += gradient * w[k]
        if not input_grad:
            return None, dw, db
        return dpadded[:, :, pad[0] : pad[0] + x.shape[2], pad[1] : pad[1] + x.shape[3]].copy(), dw, db

    def max_pool_forward(self, x: Array, window: Pair, stride: Pair) -> tuple[Array, Array]:
        """Look at each window; NumPy's argmax takes the first maximum, and NaN as one."""
        n, c, h, w = x.shape
        out_h, out_w = _out_size(h, window[0], stride[0], 0), _out_size(w, window[1], stride[1], 0)
        out = np.zeros((n, c, out_h, out_w), x.dtype)
        argmax = np.zeros((n, c, out_h, out_w), argmax_dtype(window))
        for i in range(n):
            for k in range(c):
                for y in range(out_h):
                    for xx in range(out_w):
                        top, left = y * stride[0], xx * stride[1]
                        values = x[i, k, top : top + window[0], left : left + window[1]].ravel()
                        place = int(np.argmax(values))
                        out[i, k, y, xx], argmax[i, k, y, xx] = values[place], place
        return out, argmax

    def max_pool_backward(
        self, dout: Array, argmax: Array, x_shape: tuple[int, ...], window: Pair, stride: Pair
    ) -> Array:
        """Send each gradient to the pixel that was the maximum."""
        dx = np.zeros(x_shape, dout.dtype)
        for (i, k, y, xx), place in np.ndenumerate(argmax):
            row, column = divmod(int(place), window[1])
            dx[i, k, y * stride[0] + row, xx * stride[1] + column] += dout[i, k, y, xx]
        return dx

    def batchnorm_train(
        self, x: Array, gamma: Array, beta: Array, eps: float, relu: bool = False
    ) -> tuple[Array, Array, Array]:
        """Normalise channel by channel."""
        mean, var = np.zeros_like(gamma), np.zeros_like(gamma)
        for k in range(x.shape[1]):
            values = x[:, k].ravel()
            mean[k] = sum(values) / len(values)
            var[k] = sum((value - mean[k]) ** 2 for value in values) / len(values)
        return self.batchnorm_test(x, gamma, beta, mean, var, eps, relu), mean, var

    def batchnorm_test(
        self, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float, relu: bool = False
    ) -> Array:
        """Normalise value by value."""
        out = np.zeros(x.shape, x.dtype)
        for (i, k, p), value in np.ndenumerate(x):
            out[i, k, p] = gamma[k] * (value - mean[k]) / math.sqrt(var[k] + eps) + beta[k]
        return self._positive(out, relu)

    def batchnorm_backward(
        self, dout: Array, x: Array, gamma: Array, mean: Array, var: Array, eps: float, out: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Sum, for each input of a channel, what every output of that channel owes to it."""
        if out is not None:
            dout = self.relu_backward(dout, out)
        dx, dgamma, dbeta = np.zeros(x.shape, x.dtype), np.zeros_like(gamma), np.zeros_like(gamma)
        for k in range(x.shape[1]):
            std = math.sqrt(var[k] + eps)
            x_hat, upstream = (x[:, k].ravel() - mean[k]) / std, dout[:, k].ravel()
            dgamma[k], dbeta[k] = sum(upstream * x_hat), sum(upstream)
            dx[:, k] = _normalised_gradient(upstream * gamma[k], x_hat, std).reshape(dx[:, k].shape)
        return dx, dgamma, dbeta

    def groupnorm_forward(
        self, x: Array, gamma: Array, beta: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """Normalise group by group, then scale channel by channel."""
        n, c, _ = x.shape
        size = c // groups
        mean, var = np.zeros((n, groups), x.dtype), np.zeros((n, groups), x.dtype)
        out = np.zeros(x.shape, x.dtype)
        for i in range(n):
            for g in range(groups):
                values = x[i, g * size : (g + 1) * size].ravel()
                mean[i, g] = sum(values) / len(values)
                var[i, g] = sum((value - mean[i, g]) ** 2 for value in values) / len(values)
            for k in range(c):
                g = k // size
                out[i, k] = gamma[k] * (x[i, k] - mean[i, g]) / math.sqrt(var[i, g] + eps) + beta[k]
        return out, mean, var

    def groupnorm_backward(
        self, dout: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """Sum, for each input of a group, what every output of that group owes to it."""
        n, c, _ = x.shape
        size = c // groups
        dx, dgamma, dbeta = np.zeros(x.shape, x.dtype), np.zeros_like(gamma), np.zeros_like(gamma)
        for i in range(n):
            for g in range(groups):
                channels = slice(g * size, (g + 1) * size)
                std = math.sqrt(var[i, g] + eps)
                x_hat = (x[i, channels] - mean[i, g]) / std
                upstream = dout[i, channels] * gamma[channels, None]
                dx[i, channels] = _normalised_gradient(upstream.ravel(), x_hat.ravel(), std).reshape(x_hat.shape)
                dgamma[channels] += np.sum(dout[i, channels] * x_hat, axis=1)
                dbeta[channels] += np.sum(dout[i, channels], axis=1)
        return dx, dgamma, dbeta

    def softmax_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Go sample by sample, class by class."""
        n, classes = x.shape
        loss, dx = 0.0, np.zeros(x.shape, x.dtype)
        for i in range(n):
            top = max(float(value) for value in x[i])
            exponentials = [math.exp(float(value) - top) for value in x[i]]
            total = sum(exponentials)
            loss += math.log(total) - (float(x[i, y[i]]) - top)
            for k in range(classes):
                dx[i, k] = (exponentials[k] / total - (k == y[i])) / n
        return x.dtype.type(loss / n), dx

    def svm_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Go sample by sample, class by class."""
        n, classes = x.shape
        loss, dx = 0.0, np.zeros(x.shape, x.dtype)
        for i in range(n):
            for k in range(classes):
                margin = float(x[i, k]) - float(x[i, y[i]]) + 1
                if k != y[i] and not margin <= 0:
                    loss += margin
                    dx[i, k] += 1 / n
                    dx[i, y[i]] -= 1 / n
        return x.dtype.type(loss / n), dx


def _normalised_gradient(upstream: Array, x_hat: Array, std: float) -> Array:
    """Return dx from the full Jacobian of x_hat = (x - mean) / std, (1[i = j] - 1/m - x_hat_i x_hat_j / m) / std."""
    m = len(x_hat)
    jacobian = (np.eye(m) - 1 / m - np.outer(x_hat, x_hat) / m) / std
    return upstream @ jacobian
