"""NumPy arrays and the compiled kernels: vectorised, on several threads, with the same bits for any number of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from gconv._typing import Array
from gconv.backends import far_windows
from gconv.backends.activations import activation_code
from gconv.backends.base import Arrays, StepControl, argmax_dtype
from gconv.backends.compositions import Compositions, current_scalars, each_parameter
from gconv.backends.far_windows import near_windows
from gconv.backends.numpy_arrays import NumpyArrays
from gconv.backends.sums import sum_rows
from gconv.backends.threads import get_num_threads, one_thread_after_fork, short_waits
from gconv.backends.update_rules import UpdateRule
from gconv.geometry import ConvGeometry, PoolGeometry, check_planar

kernels: Any = None
try:
    with short_waits():
        kernels = import_module("gconv.kernels.cpu._kernels")
    one_thread_after_fork(kernels.team_has_run)
except ImportError:
    pass  # nothing could be compiled here: NumpyBackend takes the place of this one

__all__ = ["CpuBackend"]

# Memory below this comes from the allocator: what it gives back is still mapped.
LARGE_BYTES = 1 << 16
# Waking a thread takes as long as moving some 10^5 values, and on a busy machine it waits for its turn.
VALUES_FOR_THREADS = 1 << 17
# Images are composed in blocks of this size where a composition would write a large activation.
BLOCK_BYTES = 4 << 20
# Rows shorter than this leave a vector half empty: NumPy's columns are faster then.
SHORT_ROW = 16


def _select_simd() -> None:
    """Use the instruction set that GCONV_SIMD names."""
    name = os.environ.get("GCONV_SIMD")
    if not name:
        return
    usable = kernels.simd_levels()
    if name not in usable:
        raise ValueError(f"the environment variable GCONV_SIMD must be one of {', '.join(usable)} here; got {name!r}")
    kernels.use_simd_level(name)


def _threads(values: float) -> int:
    return get_num_threads() if values >= VALUES_FOR_THREADS else 1


def _empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an uninitialised array, in memory of one that is gone where it is large."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    return np.empty(shape, dtype) if size < LARGE_BYTES else np.ndarray(shape, dtype, kernels.Block(size))


def _ready(x: Array) -> Array:
    """Return ``x`` as the kernels take it: C-contiguous and aligned, copied only if it is not."""
    return x if x.flags.c_contiguous and x.flags.aligned else np.array(x, order="C")


def _ready_bias(b: Array | None) -> Array | None:
    return b if b is None else _ready(b)


def _flat(x: Array) -> Array:
    return x.reshape(-1)


class CpuBackend(NumpyArrays, Compositions):
    """The ``cpu`` backend where the kernels were compiled."""

    name = "cpu"

    def __init__(self) -> None:
        _select_simd()

    # Convolution and pooling ------------------------------------------------------------------------

    def im2col(self, x: Array, geometry: ConvGeometry) -> Array:
        """Return all columns at once, 64-bit sizes throughout."""
        check_planar("im2col", geometry)
        n, _, out_h, out_w = geometry.out
        cols = _empty((math.prod(geometry.w[1:]), n * out_h * out_w), x.dtype)
        kernels.im2col(_ready(x), cols, geometry, _threads(cols.size))
        return cols

    def col2im(self, cols: Array, geometry: ConvGeometry) -> Array:
        """Sum in the order (hh, ww)."""
        check_planar("col2im", geometry)
        x = _empty(geometry.x, cols.dtype)
        kernels.col2im(_ready(cols), x, geometry, _threads(cols.size))
        return x

    def conv_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None = None
    ) -> Array:
        """Multiply implicitly, or by Winograd's transform."""
        check_planar("conv_forward", geometry)
        near = near_windows(geometry)
        if near is not None:
            return far_windows.conv_forward(self, near, x, w, b, geometry, activation)
        code, out = activation_code("conv_forward", activation), _empty(geometry.out, x.dtype)
        threads = _threads(out.size * math.prod(geometry.w[1:]) / 16)
        kernels.conv_forward(_ready(x), _ready(w), _ready_bias(b), out, geometry, code, threads)
        return out

    def conv_backward(
        self, dout: Array, x: Array, w: Array, geometry: ConvGeometry, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Correlate the gradient with the filters turned around, and with the images."""
        check_planar("conv_backward", geometry)
        near = near_windows(geometry)
        if near is not None:
            return far_windows.conv_backward(self, near, dout, x, w, geometry, input_grad)
        dout, x, w = _ready(dout), _ready(x), _ready(w)
        dw, db = _empty(w.shape, x.dtype), _empty(w.shape[:1], x.dtype)
        threads = _threads(dout.size * math.prod(geometry.w[1:]) / 16)
        dx = None
        if input_grad:
            dx = _empty(x.shape, x.dtype)
            self._input_gradient(dout, w, dx, geometry, threads)
        kernels.conv_filter_gradient(dout, x, dw, db, geometry, threads)
        return dx, dw, db

    def _input_gradient(self, dout: Array, w: Array, dx: Array, geometry: ConvGeometry, threads: int) -> None:
        if np.isfinite(w).all():
            kernels.conv_input_gradient(dout, w, dx, geometry, threads)
            return
        # The kernel multiplies filters with the zeros around dout too: NaN where no such weight has a part.
        filters = w.reshape(len(w), -1).T
        with np.errstate(invalid="ignore", over="ignore"):
            for images in _blocks(len(dx), len(filters) * dout[:1, :1].size * dx.itemsize):
                upstream = dout[images].swapaxes(0, 1).reshape(len(w), -1)
                dx[images] = self.col2im(filters @ upstream, geometry.of_images(len(dx[images])))

    def max_pool_forward(self, x: Array, pool: PoolGeometry) -> tuple[Array, Array]:
        """Scan each window once for the maximum and its place."""
        check_planar("max_pool_forward", pool)
        out, argmax = _empty(pool.out, x.dtype), _empty(pool.out, argmax_dtype(pool.window))
        kernels.max_pool_forward(_ready(x), out, argmax, pool, _threads(x.size))
        return out, argmax

    def max_pool_backward(self, dout: Array, argmax: Array, pool: PoolGeometry) -> Array:
        """Send each gradient to the pixel that was the maximum."""
        check_planar("max_pool_backward", pool)
        return self._max_pool_backward(dout, argmax, None, pool)

    def _max_pool_backward(self, dout: Array, argmax: Array, out: Array | None, pool: PoolGeometry) -> Array:
        dx = _empty(pool.x, dout.dtype)
        activation = out if out is None else _ready(out)
        kernels.max_pool_backward(_ready(dout), activation, _ready(argmax), dx, pool, _threads(dx.size))
        return dx

    def conv_relu_pool_forward(
        self, x: Array, w: Array, b: Array | None, conv: ConvGeometry, pool: PoolGeometry
    ) -> tuple[Array, Array]:
        """Pool a few rows at a time, so that the activation never leaves the cache."""
        check_planar("conv_relu_pool_forward", conv)
        if near_windows(conv) is not None:
            return super().conv_relu_pool_forward(x, w, b, conv, pool)
        out, argmax = _empty(pool.out, x.dtype), _empty(pool.out, argmax_dtype(pool.window))
        threads = _threads(math.prod(conv.out) * math.prod(conv.w[1:]) / 16)
        kernels.conv_relu_pool_forward(_ready(x), _ready(w), _ready_bias(b), out, argmax, conv, pool, threads)
        return out, argmax

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
        """Add up the windows of the pixels that have a gradient; unpool for dx, a few images at a time."""
        check_planar("conv_relu_pool_backward", conv)
        if near_windows(conv) is not None:
            return super().conv_relu_pool_backward(dout, out, argmax, x, w, conv, pool, input_grad)
        dout, out, argmax, x = _ready(dout), _ready(out), _ready(argmax), _ready(x)
        dw, db = _empty(w.shape, x.dtype), _empty(w.shape[:1], x.dtype)
        taps = math.prod(conv.w[1:])
        arrays = dout, out, argmax, x, dw, db
        summed = kernels.conv_relu_pool_filter_gradient(*arrays, conv, pool, _threads(dout.size * taps / 16))
        dx = _empty(x.shape, x.dtype) if input_grad else None
        if summed and dx is None:
            return None, dw, db
        if not summed:
            dw[...] = 0
            db[...] = 0
        for images in _blocks(len(x), math.prod(conv.out[1:]) * x.itemsize):
            n = len(x[images])
            block = conv.of_images(n)
            dact = self._max_pool_backward(dout[images], argmax[images], out[images], pool.of_images(n))
            if dx is not None:
                self._input_gradient(dact, _ready(w), dx[images], block, _threads(dact.size * taps / 16))
            if not summed:
                _, dw_block, db_block = self.conv_backward(dact, x[images], w, block, input_grad=False)
                dw += dw_block
                db += db_block
        return dx, dw, db

    # Affine layers and activations ------------------------------------------------------------------

    def relu_forward(self, x: Array) -> Array:
        """Cut on several threads."""
        out = _empty(x.shape, x.dtype)
        kernels.relu_forward(_flat(_ready(x)), _flat(out), _threads(x.size))
        return out

    def relu_backward(self, dout: Array, x: Array) -> Array:
        """Select on several threads."""
        dx = _empty(x.shape, x.dtype)
        kernels.relu_backward(_flat(_ready(dout)), _flat(_ready(x)), _flat(dx), _threads(x.size))
        return dx

    def affine_forward(self, x: Array, w: Array, b: Array | None, activation: str | None = None) -> Array:
        """Multiply with bias and activation in one pass over the result."""
        return _product(x, False, w, False, b, activation_code("affine_forward", activation))

    def affine_backward(
        self, dout: Array, x: Array, w: Array, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Multiply without copies of what is transposed."""
        dx = _product(dout, False, w, True) if input_grad else None
        return dx, _product(x, True, dout, False), sum_rows(np, dout)

    # Normalisation and losses -----------------------------------------------------------------------

    def batchnorm_train(
        self, x: Array, gamma: Array, beta: Array, eps: float, activation: str | None = None
    ) -> tuple[Array, Array, Array]:
        """Keep a channel in the cache for its three passes."""
        if x.shape[2] < SHORT_ROW:
            return super().batchnorm_train(x, gamma, beta, eps, activation)
        out, mean, var = (
            _empty(x.shape, x.dtype),
            np.empty_like(x, shape=x.shape[1]),
            np.empty_like(x, shape=x.shape[1]),
        )
        arrays = _ready(x), _ready(gamma), _ready(beta)
        code = activation_code("batchnorm_train", activation)
        kernels.batchnorm_train(*arrays, eps, code, out, mean, var, _threads(x.size))
        return out, mean, var

    def batchnorm_test(
        self, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float, activation: str | None = None
    ) -> Array:
        """Normalise in one pass."""
        if x.shape[2] < SHORT_ROW:
            return super().batchnorm_test(x, gamma, beta, mean, var, eps, activation)
        out = _empty(x.shape, x.dtype)
        arrays = _ready(x), _ready(gamma), _ready(beta), _ready(mean), _ready(var)
        code = activation_code("batchnorm_test", activation)
        kernels.batchnorm_test(*arrays, eps, code, out, _threads(x.size))
        return out

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
        """Keep a channel in the cache for both passes."""
        if x.shape[2] < SHORT_ROW:
            return super().batchnorm_backward(dout, x, gamma, mean, var, eps, activation, out)
        dx, dgamma, dbeta = _empty(x.shape, x.dtype), np.empty_like(gamma), np.empty_like(gamma)
        behind = _ready(out) if activation_code("batchnorm_backward", activation) else None
        arrays = _ready(dout), behind, _ready(x), _ready(gamma), _ready(mean), _ready(var)
        kernels.batchnorm_backward(*arrays, eps, dx, dgamma, dbeta, _threads(x.size))
        return dx, dgamma, dbeta

    def softmax_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Do a sample's row at a time; float64, which gradients are checked in, as NumPy rounds it."""
        if x.dtype == np.float64:
            return super().softmax_loss(x, y)
        dx = _empty(x.shape, x.dtype)
        return x.dtype.type(kernels.softmax_loss(_ready(x), np.ascontiguousarray(y, np.int64), dx)), dx

    def svm_loss(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Do a sample's row at a time; float64 as NumPy rounds it."""
        if x.dtype == np.float64:
            return super().svm_loss(x, y)
        dx = _empty(x.shape, x.dtype)
        return x.dtype.type(kernels.svm_loss(_ready(x), np.ascontiguousarray(y, np.int64), dx)), dx

    # Training ---------------------------------------------------------------------------------------

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
        """Do it in one pass over a parameter, its gradient and its states."""
        current = current_scalars(scalars, control)
        if current is None:
            return
        numbers, count = (tuple(current), tuple(constants)), 3 + len(states)
        for w, dw, out, old, new in each_parameter(ws, dws, outs, states, new_states):
            flat = None if rule.kernel is None else _flats(w, dw, out, *old, *new)
            if flat is None:
                single = [w], [dw], [[a] for a in old], current, constants, [out], [[a] for a in new]
                super().update(rule, *single)
            else:
                read, written = tuple(flat[3:count]), tuple(flat[count:])
                kernels.update(rule.kernel, flat[0], flat[1], read, *numbers, flat[2], written, _threads(w.size))

    def l2_penalty(self, loss: Array, weights: Arrays, grads: Arrays, reg: float) -> Array:
        """Read each weight once for the sum and the gradient."""
        total = 0.0
        for w, grad in zip(weights, grads, strict=True):
            flat = _flats(_ready(w), grad)
            if flat is None:
                loss = super().l2_penalty(loss, [w], [grad], reg)
            else:
                total += kernels.l2_penalty(flat[0], reg, flat[1], _threads(w.size))
        return loss + loss.dtype.type(0.5 * reg * total)

    def gather_rows(self, x: Array, indices: Array) -> Array:
        """Copy to memory of a minibatch that is gone, on several threads; an index outside is an IndexError."""
        if not x.flags.c_contiguous or not x.size or not len(indices) or x.dtype.hasobject:
            return super().gather_rows(x, indices)
        out = _empty((len(indices), *x.shape[1:]), x.dtype)
        rows, places = (a.reshape(len(a), -1).view(np.uint8) for a in (x, out))
        kernels.gather_rows(rows, np.ascontiguousarray(indices, np.int64), places, _threads(out.size))
        return out


def _flats(*arrays: Array) -> list[Array] | None:
    """Return the arrays as flat views that a kernel may write to; None where one is not as a kernel takes it."""
    flat = []
    for a in arrays:
        flags = a.flags
        if not (flags.c_contiguous and flags.aligned and a.dtype.isnative):
            return None
        flat.append(a if a.ndim == 1 else a.reshape(-1))
    return flat


def _product(a: Array, turn_a: bool, b: Array, turn_b: bool, bias: Array | None = None, code: int = 0) -> Array:
    rows, columns = a.shape[1 if turn_a else 0], b.shape[0 if turn_b else 1]
    out = _empty((rows, columns), a.dtype)
    threads = _threads(rows * columns * a.shape[0 if turn_a else 1] / 16)
    kernels.matrix_product(_ready(a), turn_a, _ready(b), turn_b, _ready_bias(bias), out, code, threads)
    return out


def _blocks(n: int, bytes_per_image: int) -> Iterator[slice]:
    images = max(BLOCK_BYTES // max(bytes_per_image, 1), 1)
    return (slice(first, first + images) for first in range(0, n, images))
