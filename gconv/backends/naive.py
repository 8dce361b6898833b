"""The definition of every operation, in plain loops: slow, general, what the other backends are tested against.

Nothing here shares code with another backend, and nothing is clever: an index in a formula is a loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gconv._typing import Array, Sizes
from gconv.backends import far_windows
from gconv.backends.activations import activate, activation_code
from gconv.backends.base import argmax_dtype
from gconv.backends.compositions import Compositions
from gconv.backends.far_windows import near_windows
from gconv.geometry import ConvGeometry, PoolGeometry

__all__ = ["NaiveBackend"]


def _padded(x: Array, pad: Sizes) -> Array:
    return np.pad(x, ((0, 0), (0, 0), *((zeros, zeros) for zeros in pad)))


def _unpadded(x: Array, pad: Sizes, sizes: Sizes) -> Array:
    inside = (slice(zeros, zeros + size) for zeros, size in zip(pad, sizes, strict=True))
    return x[(slice(None), slice(None), *inside)].copy()


def _out_size(size: int, field: int, stride: int, pad: int, dilation: int) -> int:
    places = 0
    while places * stride + dilation * (field - 1) + 1 <= size + 2 * pad:
        places += 1
    return places


def _places(g: ConvGeometry) -> Iterator[Sizes]:
    """Yield the place of every output pixel, counted here once more."""
    sizes = zip(g.x[2:], g.w[2:], g.stride, g.pad, g.dilation, strict=True)
    return np.ndindex(*(_out_size(*numbers) for numbers in sizes))


def _window(place: Sizes, field: Sizes, stride: Sizes, dilation: Sizes) -> tuple[slice, ...]:
    """Return the pixels of a padded image that the window of an output pixel holds."""
    starts = [y * step for y, step in zip(place, stride, strict=True)]
    return tuple(
        slice(start, start + apart * (taps - 1) + 1, apart)
        for start, taps, apart in zip(starts, field, dilation, strict=True)
    )


def _group(filter_: int, g: ConvGeometry) -> slice:
    """Return the channels that a filter meets."""
    part, channels = filter_ // (g.w[0] // g.groups), g.w[1]
    return slice(part * channels, (part + 1) * channels)


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

    def im2col(self, x: Array, geometry: ConvGeometry) -> Array:
        """Copy window by window."""
        g, near = geometry, near_windows(geometry)
        if near is not None:
            cols = np.zeros((g.x[1] * math.prod(g.w[2:]), g.x[0], *g.out[2:]), x.dtype)
            if 0 not in near.geometry.out:
                some = self.im2col(near.of(np, x), near.geometry)
                cols[(slice(None), slice(None), *near.places)] = some.reshape(len(cols), g.x[0], *near.geometry.out[2:])
            return cols.reshape(len(cols), -1)
        padded = _padded(x, g.pad)
        columns = [(i, place) for i in range(g.x[0]) for place in _places(g)]
        cols = np.zeros((g.x[1] * math.prod(g.w[2:]), len(columns)), x.dtype)
        for column, (i, place) in enumerate(columns):
            cols[:, column] = padded[(i, slice(None), *_window(place, g.w[2:], g.stride, g.dilation))].ravel()
        return cols

    def col2im(self, cols: Array, geometry: ConvGeometry) -> Array:
        """Add each column to the window it belongs to."""
        g, near = geometry, near_windows(geometry)
        if near is not None and 0 in near.geometry.out:
            return np.zeros(g.x, cols.dtype)
        if near is not None:
            some = cols.reshape(len(cols), g.x[0], *g.out[2:])[(..., *near.places)].reshape(len(cols), -1)
            return near.back(np, self.col2im(some, near.geometry), g.x)
        padded = _padded(np.zeros(g.x, cols.dtype), g.pad)
        column = 0
        for i in range(g.x[0]):
            for place in _places(g):
                where = (i, slice(None), *_window(place, g.w[2:], g.stride, g.dilation))
                padded[where] += cols[:, column].reshape(g.x[1], *g.w[2:])
                column += 1
        return _unpadded(padded, g.pad, g.x[2:])

    def conv_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None = None
    ) -> Array:
        """Multiply each window with each filter and add up."""
        g, near = geometry, near_windows(geometry)
        if near is not None:
            return far_windows.conv_forward(self, near, x, w, b, g, activation)
        padded = _padded(x, g.pad)
        out = np.zeros(g.out, x.dtype)
        for i in range(g.x[0]):
            for f in range(g.w[0]):
                for place in _places(g):
                    window = padded[(i, _group(f, g), *_window(place, g.w[2:], g.stride, g.dilation))]
                    out[(i, f, *place)] = np.sum(window * w[f]) + (0 if b is None else b[f])
        return activate("conv_forward", np, out, activation)

    def conv_backward(
        self, dout: Array, x: Array, w: Array, geometry: ConvGeometry, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Send each output gradient to its window, its filter and its bias."""
        g, near = geometry, near_windows(geometry)
        if near is not None:
            return far_windows.conv_backward(self, near, dout, x, w, g, input_grad)
        padded = _padded(x, g.pad)
        dpadded, dw, db = np.zeros_like(padded), np.zeros_like(w, order="C"), np.zeros(g.w[0], w.dtype)
        for i in range(g.x[0]):
            for f in range(g.w[0]):
                for place in _places(g):
                    where = (i, _group(f, g), *_window(place, g.w[2:], g.stride, g.dilation))
                    gradient = dout[(i, f, *place)]
                    dw[f] += gradient * padded[where]
                    db[f] += gradient
                    if input_grad:
                        dpadded[where] += gradient * w[f]
        return _unpadded(dpadded, g.pad, g.x[2:]) if input_grad else None, dw, db

    def max_pool_forward(self, x: Array, pool: PoolGeometry) -> tuple[Array, Array]:
        """Look at each window; NumPy's argmax takes the first maximum, and NaN as one."""
        out, argmax = np.zeros(pool.out, x.dtype), np.zeros(pool.out, argmax_dtype(pool.window))
        for i, c, *inner in np.ndindex(*pool.out):
            place = tuple(inner)
            values = x[(i, c, *_window(place, pool.window, pool.stride, (1,) * len(place)))].ravel()
            first = int(np.argmax(values))
            out[i, c][place], argmax[i, c][place] = values[first], first
        return out, argmax

    def max_pool_backward(self, dout: Array, argmax: Array, pool: PoolGeometry) -> Array:
        """Send each gradient to the pixel that was the maximum."""
        dx = np.zeros(pool.x, dout.dtype)
        for (i, c, *place), first in np.ndenumerate(argmax):
            inside = np.unravel_index(int(first), pool.window)
            pixel = (y * step + row for y, step, row in zip(place, pool.stride, inside, strict=True))
            dx[(i, c, *pixel)] += dout[(i, c, *place)]
        return dx

    def avg_pool_forward(self, x: Array, pool: PoolGeometry) -> Array:
        """Add up each window, pixel by pixel."""
        out = np.zeros(pool.out, x.dtype)
        for i, c, *inner in np.ndindex(*pool.out):
            place = tuple(inner)
            values = x[(i, c, *_window(place, pool.window, pool.stride, (1,) * len(place)))].ravel()
            out[i, c][place] = sum(values.tolist()) / len(values)
        return out

    def avg_pool_backward(self, dout: Array, pool: PoolGeometry) -> Array:
        """Send each gradient to every pixel of its window."""
        dx = np.zeros(pool.x, dout.dtype)
        for (i, c, *inner), gradient in np.ndenumerate(dout):
            place = tuple(inner)
            window = _window(place, pool.window, pool.stride, (1,) * len(place))
            dx[(i, c, *window)] += gradient / math.prod(pool.window)
        return dx

    def batchnorm_train(
        self, x: Array, gamma: Array, beta: Array, eps: float, activation: str | None = None
    ) -> tuple[Array, Array, Array]:
        """Normalise channel by channel."""
        activation_code("batchnorm_train", activation)
        mean, var = np.zeros_like(gamma), np.zeros_like(gamma)
        for k in range(x.shape[1]):
            mean[k], var[k] = _moments(x[:, k], x.dtype)
        return self.batchnorm_test(x, gamma, beta, mean, var, eps, activation), mean, var

    def batchnorm_test(
        self, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float, activation: str | None = None
    ) -> Array:
        """Normalise value by value."""
        out = np.zeros(x.shape, x.dtype)
        for (i, k, p), value in np.ndenumerate(x):
            out[i, k, p] = gamma[k] * (value - mean[k]) / math.sqrt(var[k] + eps) + beta[k]
        return activate("batchnorm_test", np, out, activation)

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
        """Sum, for each input of a channel, what every output of that channel owes to it."""
        if activation_code("batchnorm_backward", activation):
            dout = self.relu_backward(dout, out)
        dx, dgamma, dbeta = np.zeros(x.shape, x.dtype), np.zeros_like(gamma), np.zeros_like(gamma)
        for k in range(x.shape[1]):
            std = math.sqrt(var[k] + eps)
            x_hat, upstream = (x[:, k].ravel() - mean[k]) / std, dout[:, k].ravel()
            dgamma[k], dbeta[k] = sum((upstream * x_hat).tolist()), sum(upstream.tolist())
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
                mean[i, g], var[i, g] = _moments(x[i, g * size : (g + 1) * size], x.dtype)
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

    @np.errstate(all="ignore")
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

    @np.errstate(all="ignore")
    def cross_entropy(
        self,
        x: Array,
        y: Array,
        label_smoothing: float = 0.0,
        ignore_label: int | None = None,
        class_weights: Array | None = None,
    ) -> tuple[Array, Array]:
        """Go sample by sample, class by class."""
        n, classes = x.shape
        weights = [1.0] * classes if class_weights is None else class_weights.tolist()
        loss, total, dx = 0.0, 0.0, np.zeros(x.shape, np.float64)
        for i in range(n):
            if y.ndim == 1 and y[i] == ignore_label:
                continue
            total += weights[y[i]] if y.ndim == 1 else 1.0
            top = max(float(value) for value in x[i])
            log_sum = top + math.log(sum(math.exp(float(value) - top) for value in x[i]))
            for c in range(classes):
                wanted = float(y[i] == c) if y.ndim == 1 else float(y[i, c])
                wanted = weights[c] * ((1 - label_smoothing) * wanted + label_smoothing / classes)
                if not wanted and float(x[i, c]) - log_sum == -math.inf:
                    continue  # a class that can't be may have the score -inf
                loss += wanted * (log_sum - float(x[i, c]))
                # d(log_sum - x_c) / dx_k = p_k - 1[k = c]
                for k in range(classes):
                    dx[i, k] += wanted * (math.exp(float(x[i, k]) - log_sum) - (k == c))
        scale = 1 / total if total else 0.0
        return x.dtype.type(loss * scale), (dx * scale).astype(x.dtype)

    @np.errstate(all="ignore")
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


def _moments(values: Array, dtype: Any) -> tuple[float, float]:
    """Return mean, in the dtype's precision, and variance about it; added up in float64."""
    given = values.ravel().tolist()
    mean = sum(given) / len(given)
    # Once more, for what the first mean was rounded by.
    mean = float(dtype.type(mean + sum(value - mean for value in given) / len(given)))
    return mean, sum((value - mean) * (value - mean) for value in given) / len(given)
