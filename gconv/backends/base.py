"""The interface of a backend, and the compositions that serve where it has no kernel of its own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from gconv._typing import Array, Pair

Arrays = Sequence[Array]

__all__ = ["Backend", "BackendUnavailableError", "adam_scalars", "argmax_dtype"]


class BackendUnavailableError(RuntimeError):
    """The backend that was asked for can't run here; the message says why and what mends it."""


def argmax_dtype(window: Pair) -> str:
    """Return the dtype that holds a place inside a pooling window: a byte, unless the window is large."""
    return "uint8" if window[0] * window[1] <= 256 else "int32"


def adam_scalars(
    t: int, learning_rate: float, beta1: float, beta2: float, weight_decay: float
) -> tuple[float, float, float]:
    """Return what of Adam's step number ``t`` depends on t or the rate: a backend may keep these on its device.

    learning_rate / (1 - beta1^t), 1 / (1 - beta2^t), learning_rate * weight_decay.
    """
    return learning_rate / (1 - beta1**t), 1 / (1 - beta2**t), learning_rate * weight_decay


class Backend(ABC):
    """What NumPy and CuPy do not share; everything else a layer takes from ``xp``.

    Every method gets arrays of one floating dtype whose shapes have been checked, in any memory layout,
    and returns new C-contiguous arrays of that dtype. None writes to its inputs, except the optimiser
    steps to their state and ``out``. Strides, pads and windows are (vertical, horizontal) pairs.

    Attributes
    ----------
    name : str
        As in GCONV_BACKEND.
    xp : module
        NumPy or CuPy.
    """

    name: str
    xp: Any

    @abstractmethod
    def asarray(self, x: Array, dtype: Any = None) -> Array:
        """Return ``x``, an array or a sequence, as this backend's array, without a copy where possible."""

    @abstractmethod
    def to_numpy(self, x: Array) -> Array:
        """Return ``x`` as a NumPy array."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until every computation issued so far has ended; needed around timings."""

    @abstractmethod
    def warmup(self, dtype: str) -> None:
        """Compile now what would otherwise be compiled on first use with arrays of ``dtype``."""

    # Convolution and pooling ------------------------------------------------------------------------

    @abstractmethod
    def im2col(self, x: Array, field: Pair, stride: Pair, pad: Pair) -> Array:
        """Return the columns of x (N, C, H, W): rows (c, hh, ww), columns (n, y, x)."""

    @abstractmethod
    def col2im(self, cols: Array, x_shape: tuple[int, ...], field: Pair, stride: Pair, pad: Pair) -> Array:
        """Return the sum of columns ``(C*HH*WW, N*H'*W')`` into images of ``x_shape``: the adjoint of im2col."""

    @abstractmethod
    def conv_forward(self, x: Array, w: Array, b: Array, stride: Pair, pad: Pair, relu: bool = False) -> Array:
        """Return out (N, F, H', W') of x (N, C, H, W), w (F, C, HH, WW), b (F,), or its positive part."""

    @abstractmethod
    def conv_backward(
        self, dout: Array, x: Array, w: Array, stride: Pair, pad: Pair, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Return (dx, dw, db); dx is None where ``input_grad`` is False."""

    @abstractmethod
    def max_pool_forward(self, x: Array, window: Pair, stride: Pair) -> tuple[Array, Array]:
        """Return (out, argmax); argmax holds row * width + column inside the window, the first maximum's."""

    @abstractmethod
    def max_pool_backward(
        self, dout: Array, argmax: Array, x_shape: tuple[int, ...], window: Pair, stride: Pair
    ) -> Array:
        """Return dx: each gradient goes to the pixel that was the maximum."""

    def conv_relu_pool_forward(
        self, x: Array, w: Array, b: Array, stride: Pair, pad: Pair, window: Pair, pool_stride: Pair
    ) -> tuple[Array, Array]:
        """Return (out, argmax) of convolution, ReLU and max pooling in one."""
        activation = self.conv_forward(x, w, b, stride, pad, relu=True)
        return self.max_pool_forward(activation, window, pool_stride)

    def conv_relu_pool_backward(
        self,
        dout: Array,
        out: Array,
        argmax: Array,
        x: Array,
        w: Array,
        conv_shape: tuple[int, ...],
        stride: Pair,
        pad: Pair,
        window: Pair,
        pool_stride: Pair,
        input_grad: bool = True,
    ) -> tuple[Array | None, Array, Array]:
        """Return (dx, dw, db) of conv_relu_pool_forward, whose ``out`` and ``argmax`` are given.

        ``conv_shape`` is (N, F, H', W') of the convolution. The convolution's output is not needed: a
        pooled value is positive exactly where the ReLU let its maximum through.
        """
        dact = self.max_pool_backward(self.relu_backward(dout, out), argmax, conv_shape, window, pool_stride)
        return self.conv_backward(dact, x, w, stride, pad, input_grad)

    # Affine layers, activations and dropout ---------------------------------------------------------

    def relu_forward(self, x: Array) -> Array:
        """Return the positive part of x, of any shape."""
        return self.xp.maximum(x, 0)

    def relu_backward(self, dout: Array, x: Array) -> Array:
        """Return dout where x, or what became of it, is positive, else 0."""
        # Not a product with the mask: an infinite gradient that is stopped would become NaN.
        return self.xp.where(x > 0, dout, 0)

    def affine_forward(self, x: Array, w: Array, b: Array, relu: bool = False) -> Array:
        """Return x w + b (N, M) of x (N, D), w (D, M), b (M,), or its positive part."""
        out = self.xp.matmul(x, w)
        out += b
        return self.xp.maximum(out, 0, out=out) if relu else out

    def affine_backward(
        self, dout: Array, x: Array, w: Array, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Return (dx, dw, db) of affine_forward without ReLU; dx is None where ``input_grad`` is False."""
        dx = self.xp.matmul(dout, w.T) if input_grad else None
        return dx, self.xp.matmul(x.T, dout), dout.sum(axis=0)

    def dropout_forward(self, x: Array, keep: Array, p: float) -> tuple[Array, Array]:
        """Return (x * mask, mask) with mask = keep / p; ``keep`` is a NumPy array of bool."""
        mask = self.asarray(keep / p, x.dtype)
        return x * mask, mask

    # Normalisation ----------------------------------------------------------------------------------

    def batchnorm_train(
        self, x: Array, gamma: Array, beta: Array, eps: float, relu: bool = False
    ) -> tuple[Array, Array, Array]:
        """Return (out, mean, var) of x (N, C, P), mean and biased variance (C,) over N and P.

        ``relu`` returns out's positive part.
        """
        mean = x.mean(axis=(0, 2))
        # Two passes: E[x^2] - E[x]^2 loses every digit where the mean is large.
        centred = x - mean[:, None]
        var = (centred * centred).mean(axis=(0, 2))
        scale = gamma / self.xp.sqrt(var + eps)
        centred *= scale[:, None]
        centred += beta[:, None]
        return self._positive(centred, relu), mean, var

    def batchnorm_test(
        self, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float, relu: bool = False
    ) -> Array:
        """Return x (N, C, P) normalised with the given mean and variance (C,), or its positive part."""
        scale = gamma / self.xp.sqrt(var + eps)
        out = x - mean[:, None]
        out *= scale[:, None]
        out += beta[:, None]
        return self._positive(out, relu)

    def _positive(self, out: Array, relu: bool) -> Array:
        return self.xp.maximum(out, 0, out=out) if relu else out

    def batchnorm_backward(
        self, dout: Array, x: Array, gamma: Array, mean: Array, var: Array, eps: float, out: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta) of batchnorm_train; with ``relu``, ``out`` is what that returned."""
        if out is not None:
            dout = self.relu_backward(dout, out)
        inv_std = 1 / self.xp.sqrt(var + eps)
        x_hat = (x - mean[:, None]) * inv_std[:, None]
        dbeta = dout.sum(axis=(0, 2))
        dgamma = (dout * x_hat).sum(axis=(0, 2))
        count = x.shape[0] * x.shape[2]
        dx = dout - (dbeta[:, None] + x_hat * dgamma[:, None]) / count
        dx *= (gamma * inv_std)[:, None]
        return dx, dgamma, dbeta

    def groupnorm_forward(
        self, x: Array, gamma: Array, beta: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """Return (out, mean, var) of x (N, C, P), mean and variance (N, groups) over C/groups and P."""
        n, c, p = x.shape
        rows = x.reshape(n, groups, c // groups * p)
        mean = rows.mean(axis=2)
        centred = rows - mean[:, :, None]
        var = (centred * centred).mean(axis=2)
        centred /= self.xp.sqrt(var + eps)[:, :, None]
        out = centred.reshape(n, c, p)
        out *= gamma[:, None]
        out += beta[:, None]
        return out, mean, var

    def groupnorm_backward(
        self, dout: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta) of groupnorm_forward."""
        n, c, p = x.shape
        size = c // groups * p
        inv_std = 1 / self.xp.sqrt(var + eps)[:, :, None]
        x_hat = (x.reshape(n, groups, size) - mean[:, :, None]) * inv_std
        dbeta = dout.sum(axis=(0, 2))
        dgamma = (dout * x_hat.reshape(n, c, p)).sum(axis=(0, 2))
        dhat = (dout * gamma[:, None]).reshape(n, groups, size)
        projection = (dhat * x_hat).mean(axis=2)[:, :, None]
        dx = inv_std * (dhat - dhat.mean(axis=2)[:, :, None] - x_hat * projection)
        return dx.reshape(n, c, p), dgamma, dbeta

    # Losses -----------------------------------------------------------------------------------------

    def softmax_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return (loss, dx): the mean cross entropy of scores x (N, C) and labels y (N,), N > 0."""
        xp, n = self.xp, x.shape[0]
        shifted = x - x.max(axis=1)[:, None]
        exponentials = xp.exp(shifted)
        total = exponentials.sum(axis=1)
        rows = xp.arange(n)
        # log(total) - shifted, not -log(probability): a probability may underflow to 0.
        loss = (xp.log(total) - shifted[rows, y]).sum() / n
        dx = exponentials / total[:, None]
        dx[rows, y] -= 1
        dx /= n
        return loss, dx

    def svm_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return (loss, dx): the mean multiclass hinge loss of scores x (N, C) and labels y (N,), N > 0."""
        xp, n = self.xp, x.shape[0]
        rows = xp.arange(n)
        margins = x - x[rows, y][:, None]
        margins += 1
        margins[rows, y] = 0
        # A NaN score must reach the loss, which maximum lets it.
        xp.maximum(margins, 0, out=margins)
        loss = margins.sum() / n
        dx = (margins > 0).astype(x.dtype)
        dx[rows, y] -= dx.sum(axis=1)
        dx /= n
        return loss, dx

    # Training: sequences of arrays, one per parameter. The new w goes to its `out`, which may be w itself; state
    # arrays change in place --------------------------------------------------------------------------

    def sgd_step(self, ws: Arrays, dws: Arrays, learning_rate: float, outs: Arrays) -> None:
        """Write w - learning_rate * dw to ``out``."""
        for w, dw, out in zip(ws, dws, outs, strict=True):
            self.xp.subtract(w, learning_rate * dw, out=out)

    def momentum_step(
        self,
        ws: Arrays,
        dws: Arrays,
        velocities: Arrays,
        learning_rate: float,
        momentum: float,
        nesterov: bool,
        outs: Arrays,
    ) -> None:
        """Set v = momentum * v - learning_rate * dw; write w + v to ``out``, or with Nesterov's look-ahead."""
        for w, dw, velocity, out in zip(ws, dws, velocities, outs, strict=True):
            step = learning_rate * dw
            velocity *= momentum
            velocity -= step
            if nesterov:
                self.xp.subtract(momentum * velocity, step, out=step)
                self.xp.add(w, step, out=out)
            else:
                self.xp.add(w, velocity, out=out)

    def rmsprop_step(
        self,
        ws: Arrays,
        dws: Arrays,
        caches: Arrays,
        learning_rate: float,
        decay_rate: float,
        epsilon: float,
        outs: Arrays,
    ) -> None:
        """Set cache = decay * cache + (1 - decay) dw^2; write w - rate * dw / (sqrt(cache) + epsilon) to ``out``."""
        xp = self.xp
        for w, dw, cache, out in zip(ws, dws, caches, outs, strict=True):
            square = dw * dw
            square *= 1 - decay_rate
            cache *= decay_rate
            cache += square
            root = xp.sqrt(cache, out=square)
            root += epsilon
            step = learning_rate * dw
            step /= root
            xp.subtract(w, step, out=out)

    def adam_step(
        self,
        ws: Arrays,
        dws: Arrays,
        ms: Arrays,
        vs: Arrays,
        t: int,
        learning_rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
        outs: Arrays,
    ) -> None:
        """Do step number ``t`` >= 1 of Adam with bias correction; ``weight_decay`` is AdamW's, decoupled."""
        xp = self.xp
        rate, correction, shrink = adam_scalars(t, learning_rate, beta1, beta2, weight_decay)
        for w, dw, m, v, out in zip(ws, dws, ms, vs, outs, strict=True):
            step = (1 - beta1) * dw
            m *= beta1
            m += step
            root = dw * dw
            root *= 1 - beta2
            v *= beta2
            v += root
            xp.multiply(v, correction, out=root)
            xp.sqrt(root, out=root)
            root += epsilon
            xp.multiply(m, rate, out=step)
            step /= root
            if shrink:
                step += shrink * w
            xp.subtract(w, step, out=out)

    def l2_penalty(self, loss: Array, weights: Arrays, grads: Arrays, reg: float) -> Array:
        """Return loss + 0.5 * reg * (sum of all squares), and add reg * w to each gradient in place."""
        for w, grad in zip(weights, grads, strict=True):
            flat = w.reshape(-1)
            loss = loss + (0.5 * reg) * self.xp.vdot(flat, flat)
            grad += reg * w
        return loss

    def clip_gradients(self, grads: Arrays, max_norm: float) -> list[Array]:
        """Return all gradients, of one dtype, times min(1, max_norm / the norm of all of them as one vector)."""
        # Not vdot: BLAS may add up in another order with another number of threads.
        norm = math.sqrt(sum(float(self.xp.square(grad).sum()) for grad in grads))
        # Where a gradient is not finite, so is the norm, and the comparison leaves it as it is or makes it NaN.
        return [grad * (max_norm / norm) for grad in grads] if norm > max_norm else list(grads)

    def gather_rows(self, x: Array, indices: Array) -> Array:
        """Return x[indices] for an integer array ``indices`` (M,) of either module, all in [0, len(x))."""
        return x[self.asarray(indices)]

    def augment(self, x: Array, draws: Array, cutout: int) -> Array:
        """Return changed copies of images x (N, C, H, W), from ``draws``, an int32 NumPy array (N, 5).

        Image i is surrounded by zeros, cut out at (draws[i, 0], draws[i, 1]), mirrored left to right where
        draws[i, 2], and gets zeros in the square of ``cutout`` pixels a side at (draws[i, 3], draws[i, 4]).
        """
        out = self.xp.zeros(x.shape, x.dtype)
        _, _, h, w = x.shape
        for image, result, (top, left, mirrored, cut_top, cut_left) in zip(x, out, draws.tolist(), strict=True):
            source = image[:, max(top, 0) : max(h + top, 0), max(left, 0) : max(w + left, 0)]
            y, column = max(-top, 0), max(-left, 0)
            target = result[:, :, ::-1] if mirrored else result
            target[:, y : y + source.shape[1], column : column + source.shape[2]] = source
            if cutout:
                result[:, max(cut_top, 0) : max(cut_top + cutout, 0), max(cut_left, 0) : max(cut_left + cutout, 0)] = 0
        return out
