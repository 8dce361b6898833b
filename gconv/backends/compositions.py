"""The defaults of a backend's operations in plain array code, for where it has no kernel of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gconv._typing import Array
from gconv.backends.activations import activate, activation_code
from gconv.backends.base import Arrays, Backend, StepControl
from gconv.backends.sums import centred, sum_channels, sum_last, sum_rows
from gconv.backends.update_rules import UpdateRule
from gconv.geometry import ConvGeometry, PoolGeometry

__all__ = ["Compositions", "current_scalars", "each_parameter"]


class Compositions(Backend):
    """Operations composed of others and of ``xp``'s; a backend overrides what it does faster."""

    def avg_pool_forward(self, x: Array, pool: PoolGeometry) -> Array:
        """Add up what all windows have at each of their places, in row-major order."""
        first, *others = pool.places()
        out = self.xp.array(x[first], order="C")
        for pixels in others:
            out += x[pixels]
        out /= math.prod(pool.window)
        return out

    def avg_pool_backward(self, dout: Array, pool: PoolGeometry) -> Array:
        """Add the gradients' parts to what all windows have at each of their places."""
        dx, part = self.xp.zeros(pool.x, dout.dtype), dout / math.prod(pool.window)
        for pixels in pool.places():
            dx[pixels] += part
        return dx

    def conv_relu_pool_forward(
        self, x: Array, w: Array, b: Array | None, conv: ConvGeometry, pool: PoolGeometry
    ) -> tuple[Array, Array]:
        """Convolve, then pool."""
        return self.max_pool_forward(self.conv_forward(x, w, b, conv, "relu"), pool)

    def conv_relu_pool_backward(
        self,
        dout: Array,
        out: Array,
        argmax: Array,
        x: Array,
        w: Array,
        conv: ConvGeometry,
        pool: PoolGeometry,
        input_grad: bool = True,
    ) -> tuple[Array | None, Array, Array]:
        """Unpool, then take the convolution's gradients."""
        # The convolution's output is not needed: a pooled value is positive exactly where the ReLU let its maximum
        # through.
        dact = self.max_pool_backward(self.relu_backward(dout, out), argmax, pool)
        return self.conv_backward(dact, x, w, conv, input_grad)

    # Affine layers, activations and dropout ---------------------------------------------------------

    def relu_forward(self, x: Array) -> Array:
        """Take the larger of each value and 0."""
        return self.xp.maximum(x, 0)

    def relu_backward(self, dout: Array, x: Array) -> Array:
        """Select by the sign of x."""
        # Not a product with the mask: an infinite gradient that is stopped would become NaN.
        return self.xp.where(x > 0, dout, 0)

    def affine_forward(self, x: Array, w: Array, b: Array | None, activation: str | None = None) -> Array:
        """Multiply, then add the bias in place."""
        out = self.xp.matmul(x, w)
        if b is not None:
            out += b
        return activate("affine_forward", self.xp, out, activation)

    def affine_backward(
        self, dout: Array, x: Array, w: Array, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Multiply twice, and sum over the samples."""
        dx = self.xp.matmul(dout, w.T) if input_grad else None
        return dx, self.xp.matmul(x.T, dout), sum_rows(self.xp, dout)

    def dropout_forward(self, x: Array, keep: Array, p: float) -> tuple[Array, Array]:
        """Make the mask where ``keep`` is, and move it."""
        mask = self.asarray(keep / p, x.dtype)
        return x * mask, mask

    # Normalisation ----------------------------------------------------------------------------------

    def batchnorm_train(
        self, x: Array, gamma: Array, beta: Array, eps: float, activation: str | None = None
    ) -> tuple[Array, Array, Array]:
        """Go over x twice: E[x^2] - E[x]^2 loses every digit where the mean is large."""
        xp, count = self.xp, x.shape[0] * x.shape[2]

        def mean_of(values: Array) -> Array:
            return (sum_channels(xp, values) / count)[:, None]

        out, mean = centred(xp, x, mean_of(x), mean_of)
        var = mean_of(out * out)[:, 0]
        out *= (gamma / xp.sqrt(var + eps))[:, None]
        out += beta[:, None]
        return activate("batchnorm_train", xp, out, activation), mean[:, 0], var

    def batchnorm_test(
        self, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float, activation: str | None = None
    ) -> Array:
        """Normalise in place, one operation after the other."""
        scale = gamma / self.xp.sqrt(var + eps)
        out = x - mean[:, None]
        out *= scale[:, None]
        out += beta[:, None]
        return activate("batchnorm_test", self.xp, out, activation)

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
        """Evaluate the simplified formula."""
        if activation_code("batchnorm_backward", activation):
            dout = self.relu_backward(dout, out)
        inv_std = 1 / self.xp.sqrt(var + eps)
        x_hat = (x - mean[:, None]) * inv_std[:, None]
        dbeta = sum_channels(self.xp, dout)
        dgamma = sum_channels(self.xp, dout * x_hat)
        count = x.shape[0] * x.shape[2]
        dx = dout - (dbeta[:, None] + x_hat * dgamma[:, None]) / count
        dx *= (gamma * inv_std)[:, None]
        return dx, dgamma, dbeta

    def groupnorm_forward(
        self, x: Array, gamma: Array, beta: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """See each group of a sample as a row."""
        n, c, p = x.shape
        rows = x.reshape(n, groups, c // groups * p)

        def mean_of(values: Array) -> Array:
            return sum_last(self.xp, values)[:, :, None] / values.shape[2]

        out, mean = centred(self.xp, rows, mean_of(rows), mean_of)
        var = mean_of(out * out)
        out /= self.xp.sqrt(var + eps)
        out = out.reshape(n, c, p)
        out *= gamma[:, None]
        out += beta[:, None]
        return out, mean[:, :, 0], var[:, :, 0]

    def groupnorm_backward(
        self, dout: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """Evaluate the simplified formula, row by row."""
        n, c, p = x.shape
        size = c // groups * p
        inv_std = 1 / self.xp.sqrt(var + eps)[:, :, None]
        x_hat = (x.reshape(n, groups, size) - mean[:, :, None]) * inv_std
        dbeta = sum_channels(self.xp, dout)
        dgamma = sum_channels(self.xp, dout * x_hat.reshape(n, c, p))
        dhat = (dout * gamma[:, None]).reshape(n, groups, size)
        projection, mean_dhat = (sum_last(self.xp, a)[:, :, None] / size for a in (dhat * x_hat, dhat))
        dx = inv_std * (dhat - mean_dhat - x_hat * projection)
        return dx.reshape(n, c, p), dgamma, dbeta

    # Losses: what becomes infinite, NaN or 0 on the way is a result, whatever np.seterr says -----------

    @np.errstate(all="ignore")
    def softmax_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Evaluate the course's expressions in their order, and round as the figures of its notebooks do."""
        xp, n = self.xp, x.shape[0]
        log_probabilities, rows = self._log_softmax(x), xp.arange(n)
        loss = -log_probabilities[rows, y].sum() / n
        dx = xp.exp(log_probabilities)
        dx[rows, y] -= 1
        dx /= n
        return loss, dx

    def _log_softmax(self, x: Array) -> Array:
        """Shift the scores by their maximum, so that no exponential overflows."""
        shifted = x - x.max(axis=1)[:, None]
        return shifted - self.xp.log(self.xp.exp(shifted).sum(axis=1))[:, None]

    @np.errstate(all="ignore")
    def cross_entropy(
        self,
        x: Array,
        y: Array,
        label_smoothing: float = 0.0,
        ignore_label: int | None = None,
        class_weights: Array | None = None,
    ) -> tuple[Array, Array]:
        """Put the weighted probabilities that each sample ought to have into one matrix."""
        xp, (n, classes) = self.xp, x.shape
        if y.ndim == 1:
            y = y.astype(np.int64, copy=False)  # the label that is ignored may be none of its dtype's
            places = y[:, None] == xp.arange(classes)
            # A label outside [0, C), which is not looked for on a device, makes the loss NaN.
            known = xp.where(places.any(axis=1), 1, math.nan).astype(x.dtype)
            counts = known if ignore_label is None else xp.where(y == ignore_label, 0, known)
            shares = counts if class_weights is None else counts * xp.where(places, class_weights, 0).sum(axis=1)
            wanted, total = places.astype(x.dtype), shares.sum()
        else:
            counts, wanted, total = xp.ones(n, x.dtype), y, xp.full((), n, x.dtype)
        if label_smoothing:
            wanted = (1 - label_smoothing) * wanted + label_smoothing / classes
        if class_weights is not None:
            wanted = wanted * class_weights
        wanted, ignored = wanted * counts[:, None], counts[:, None] == 0
        log_probabilities = self._log_softmax(x)
        # A class that can't be may have the score -inf: 0 times that is no part of the loss. 0 times NaN is one.
        left_out = ignored | ((wanted == 0) & (log_probabilities == -math.inf))
        parts = xp.where(left_out, 0, wanted * log_probabilities)
        scale = xp.where(total == 0, 0, 1 / total)
        gradient = xp.exp(log_probabilities) * wanted.sum(axis=1)[:, None] - wanted
        # Subtracted: the negative of a sum of 0 would be printed as -0.0.
        return 0 - parts.sum() * scale, xp.where(ignored, 0, gradient * scale)

    @np.errstate(all="ignore")
    def svm_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Set the margin of the label itself to 0 and sum the rest."""
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

    # Training ---------------------------------------------------------------------------------------

    @np.errstate(all="ignore")
    def update(
        self,
        rule: UpdateRule,
        ws: Arrays,
        dws: Arrays,
        states: Sequence[Arrays],
        scalars: Sequence[float],
        constants: Sequence[float],
        outs: Arrays,
        new_states: Sequence[Arrays],
        control: StepControl | None = None,
    ) -> None:
        """Do what the rule's definition says, parameter by parameter; control is waited for."""
        current = current_scalars(scalars, control)
        if current is None:
            return
        for w, dw, out, old, new in each_parameter(ws, dws, outs, states, new_states):
            if not w.ndim:
                # An operation on arrays without axes returns a scalar, which can't be written to.
                w, dw, out, *both = (self.xp.reshape(a, 1) for a in (w, dw, out, *old, *new))
                old, new = both[: len(old)], both[len(old) :]
            rule.step(self.xp, w, dw, old, current, constants, out, new)

    @np.errstate(all="ignore")
    def l2_penalty(self, loss: Array, weights: Arrays, grads: Arrays, reg: float) -> Array:
        """Return loss + 0.5 * reg * (sum of all squares), and add reg * w to each gradient in place."""
        for w, grad in zip(weights, grads, strict=True):
            flat = w.reshape(-1)
            loss = loss + (0.5 * reg) * self.xp.vdot(flat, flat)
            grad += reg * w
        return loss

    def clip_gradients(self, grads: Arrays, max_norm: float) -> list[Array]:
        """Return all gradients, of one dtype, times min(1, max_norm / the norm of all of them as one vector)."""
        square = self.xp.square
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            # Not vdot: BLAS may add up in another order with another number of threads.
            squares = sum(float(square(grad).sum()) for grad in grads)
            if 1e-30 < squares < math.inf:
                norm = math.sqrt(squares)
                return [grad * (max_norm / norm) for grad in grads] if norm > max_norm else list(grads)
            # Squares of finite numbers may be too large or too small for the dtype; of numbers up to 1 they are not.
            largest = max((float(abs(grad).max()) for grad in grads if grad.size), default=0.0)
            if not 0 < largest < math.inf:
                # Where a gradient is infinite, the finite ones become 0; NaN leaves all as they are.
                return [grad * (max_norm / largest) for grad in grads] if largest > 0 else list(grads)
            norm = math.sqrt(sum(float(square(grad / largest).sum()) for grad in grads))
            if norm <= max_norm / largest:
                return list(grads)
            return [grad / largest * (max_norm / norm) for grad in grads]

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

    # Steps that are queued --------------------------------------------------------------------------

    def record_loss(self, loss: Array, losses: Array, row: Array, stopped: Array) -> None:
        """Look at the loss."""
        value = float(loss)
        losses[int(row)] = value
        if not math.isfinite(value):
            stopped[...] = 1

    def next_step(self, row: Array) -> None:
        """Count on."""
        row[...] += 1

    def gather_step_rows(self, x: Array, table: Array, row: Array) -> Array:
        """Look at the row."""
        return self.gather_rows(x, table[int(row)])

    def augment_step(self, x: Array, table: Array, row: Array, cutout: int) -> Array:
        """Look at the row."""
        return self.augment(x, table[int(row)], cutout)

    def assign(self, outs: Arrays, values: Arrays, stopped: Array) -> None:
        """Look at the flag."""
        if not int(stopped):
            for out, value in zip(outs, values, strict=True):
                out[...] = value

    def upload(self, target: Array, values: Array) -> None:
        """Copy at once."""
        target[...] = values

    def graph_recorder(self) -> Any:
        """Record nothing."""
        return None


def current_scalars(scalars: Sequence[float], control: StepControl | None) -> Sequence[float] | None:
    """Return the scalars of this step as ``control`` has them, None where nothing is to be written."""
    if control is None:
        return scalars
    if int(control.stopped):
        return None
    if control.table is None or control.row is None:
        return scalars
    found: list[float] = control.table[int(control.row), control.part].tolist()
    return found


def each_parameter(
    ws: Arrays, dws: Arrays, outs: Arrays, states: Sequence[Arrays], new_states: Sequence[Arrays]
) -> Iterator[tuple[Array, Array, Array, Arrays, Arrays]]:
    """Yield (w, dw, out, its states, its new states) of each parameter."""
    nothing: list[tuple[Array, ...]] = [()] * len(ws)
    old, new = (list(zip(*arrays, strict=True)) if arrays else nothing for arrays in (states, new_states))
    return zip(ws, dws, outs, old, new, strict=True)
