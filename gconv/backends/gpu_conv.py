"""Convolution, pooling and affine layers on CuPy arrays."""

from __future__ import annotations

import math

import cupy

from gconv._checks import output_size
from gconv._typing import Array, Pair
from gconv.backends.base import argmax_dtype
from gconv.backends.capture import capture
from gconv.backends.compositions import Compositions
from gconv.backends.cuda_module import launch
from gconv.backends.gpu_memory import names_memory
from gconv.backends.gpu_plan import COLUMN_BYTES, Plan, blocks_for, plan_product, unrolls_columns

__all__ = ["BLOCK", "GpuConvolution", "ready"]

BLOCK = (256,)
MAX_GRID_Y = 65535  # CUDA's limit


def ready(x: Array) -> Array:
    """Return ``x`` as the kernels take it: C-contiguous, copied only if it is not."""
    return cupy.ascontiguousarray(x)


class GpuConvolution(Compositions):
    """The part of GpuBackend whose work is matrix products and windows."""

    @names_memory
    def im2col(self, x: Array, field: Pair, stride: Pair, pad: Pair) -> Array:
        """Return all columns at once, a thread per value."""
        geometry = _geometry(x.shape, field, stride, pad)
        cols = cupy.empty((x.shape[1] * field[0] * field[1], x.shape[0] * geometry[-2] * geometry[-1]), x.dtype)
        if cols.size:
            launch("im2col", "im2col", x.dtype, (blocks_for(cols.size),), BLOCK, ready(x), cols, *geometry)
        return cols

    @names_memory
    def col2im(self, cols: Array, x_shape: tuple[int, ...], field: Pair, stride: Pair, pad: Pair) -> Array:
        """Gather: a thread per pixel sums in the order (hh, ww), without atomics."""
        x = cupy.empty(x_shape, cols.dtype)
        if x.size:
            geometry = _geometry(x_shape, field, stride, pad)
            launch("im2col", "col2im", x.dtype, (blocks_for(x.size),), BLOCK, ready(cols), x, *geometry)
        return x

    @names_memory
    def conv_forward(self, x: Array, w: Array, b: Array, stride: Pair, pad: Pair, relu: bool = False) -> Array:
        """Multiply implicitly, or unroll pieces of columns for cuBLAS where there are many filters."""
        x, w, b, f = ready(x), ready(w), ready(b), w.shape[0]
        geometry = _geometry(x.shape, w.shape[2:], stride, pad)
        out = cupy.empty((x.shape[0], f, *geometry[-2:]), x.dtype)
        if not out.size:
            return out
        if unrolls_columns(f) and not capture.running:
            self._unrolled_forward(x, w, b, stride, pad, out)
            return cupy.maximum(out, 0, out=out) if relu else out
        taps, pixels = math.prod(w.shape[1:]), out.size // f
        plan = plan_product(f, pixels, taps, x.itemsize, splits=False)
        _product("conv", "conv_forward", plan, x, w, b, out, f, int(relu), *geometry)
        return out

    @names_memory
    def conv_backward(
        self, dout: Array, x: Array, w: Array, stride: Pair, pad: Pair, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Sum the filters' gradient over splits of the pixels, in a fixed order; gather the input's."""
        dout, x, w = ready(dout), ready(x), ready(w)
        f, taps = w.shape[0], math.prod(w.shape[1:])
        if unrolls_columns(f) and not capture.running:
            return self._unrolled_backward(dout, x, w, stride, pad, input_grad)
        geometry = _geometry(x.shape, w.shape[2:], stride, pad)
        dw, db = cupy.empty(w.shape, w.dtype), cupy.empty(f, w.dtype)
        if f:
            plan = plan_product(f, taps + 1, dout.size // f, x.itemsize, splits=True)
            partial = _partial(plan, f, taps + 1, x)
            _product("conv", "conv_filter_gradient", plan, dout, x, dw, db, partial, f, plan.chunk, *geometry)
            if partial is not None:
                rest = partial, dw, db, plan.splits, f, taps
                launch("conv", "conv_filter_gradient_add", x.dtype, (blocks_for(f * (taps + 1)),), BLOCK, *rest)
        if not input_grad:
            return None, dw, db
        dx = cupy.empty(x.shape, x.dtype)
        if dx.size:
            n, c, h, width = x.shape
            # the largest class of pixels: a class has every stride-th row and column
            largest = n * -(-h // stride[0]) * -(-width // stride[1])
            plan = plan_product(c, largest, f * w.shape[2] * w.shape[3], x.itemsize, splits=False)
            classes = min(stride[0] * stride[1], MAX_GRID_Y)
            _product("conv", "conv_input_gradient", plan._replace(splits=classes), dout, w, dx, f, largest, *geometry)
        return dx, dw, db

    def _unrolled_forward(self, x: Array, w: Array, b: Array, stride: Pair, pad: Pair, out: Array) -> None:
        f, taps = w.shape[0], math.prod(w.shape[1:])
        for images in _column_pieces(out.shape, taps, x.itemsize):
            cols = self.im2col(x[images], w.shape[2:], stride, pad)
            product = cupy.matmul(w.reshape(f, taps), cols).reshape(f, -1, *out.shape[2:])  # (F, n, H', W')
            cupy.add(product.transpose(1, 0, 2, 3), b[:, None, None], out=out[images])

    def _unrolled_backward(
        self, dout: Array, x: Array, w: Array, stride: Pair, pad: Pair, input_grad: bool
    ) -> tuple[Array | None, Array, Array]:
        f, taps = w.shape[0], math.prod(w.shape[1:])
        dx = cupy.empty(x.shape, x.dtype) if input_grad else None
        dw, db = cupy.zeros((f, taps), w.dtype), cupy.zeros(f, w.dtype)
        for images in _column_pieces(dout.shape, taps, x.itemsize):
            part = x[images]
            upstream = ready(dout[images].transpose(1, 0, 2, 3)).reshape(f, -1)  # (F, n*H'*W')
            dw += cupy.matmul(upstream, self.im2col(part, w.shape[2:], stride, pad).T)
            db += upstream.sum(axis=1)
            if dx is not None:
                dcols = cupy.matmul(w.reshape(f, taps).T, upstream)
                dx[images] = self.col2im(dcols, part.shape, w.shape[2:], stride, pad)
        return dx, dw.reshape(w.shape), db

    @names_memory
    def max_pool_forward(self, x: Array, window: Pair, stride: Pair) -> tuple[Array, Array]:
        """Scan each window once, a thread per window."""
        return self._max_pool_forward(x, window, stride, with_relu=False)

    def _max_pool_forward(self, x: Array, window: Pair, stride: Pair, with_relu: bool) -> tuple[Array, Array]:
        n, c, h, w = x.shape
        shape = (n, c, output_size(h, window[0], stride[0]), output_size(w, window[1], stride[1]))
        out, argmax = cupy.empty(shape, x.dtype), cupy.empty(shape, argmax_dtype(window))
        if out.size:
            sizes = n * c, h, w, *window, *stride, *shape[2:], int(with_relu)
            operation = f"max_pool_forward{_wide_place(argmax)}"
            launch("max_pool", operation, x.dtype, (blocks_for(out.size),), BLOCK, ready(x), out, argmax, *sizes)
        return out, argmax

    @names_memory
    def max_pool_backward(
        self, dout: Array, argmax: Array, x_shape: tuple[int, ...], window: Pair, stride: Pair
    ) -> Array:
        """Gather: a thread per pixel looks at the windows that hold it, without atomics."""
        return self._max_pool_backward(dout, argmax, None, x_shape, window, stride)

    def _max_pool_backward(
        self, dout: Array, argmax: Array, out: Array | None, x_shape: tuple[int, ...], window: Pair, stride: Pair
    ) -> Array:
        dx = cupy.empty(x_shape, dout.dtype)
        if dx.size:
            sizes = x_shape[0] * x_shape[1], *x_shape[2:], *window, *stride, *dout.shape[2:]
            arrays = ready(dout), ready(argmax), out if out is None else ready(out), dx
            operation = f"max_pool_backward{_wide_place(argmax)}"
            launch("max_pool", operation, dx.dtype, (blocks_for(dx.size),), BLOCK, *arrays, *sizes)
        return dx

    @names_memory
    def conv_relu_pool_forward(
        self, x: Array, w: Array, b: Array, stride: Pair, pad: Pair, window: Pair, pool_stride: Pair
    ) -> tuple[Array, Array]:
        """Do 2 x 2 pooling in the convolution's own kernel, any other in a second one."""
        f = w.shape[0]
        if window != (2, 2) or pool_stride != (2, 2) or (unrolls_columns(f) and not capture.running):
            activation = self.conv_forward(x, w, b, stride, pad)
            return self._max_pool_forward(activation, window, pool_stride, with_relu=True)
        geometry = _geometry(x.shape, w.shape[2:], stride, pad)
        pooled = geometry[-2] // 2, geometry[-1] // 2
        shape = (x.shape[0], f, *pooled)
        out, argmax = cupy.empty(shape, x.dtype), cupy.empty(shape, "uint8")
        if out.size:
            plan = plan_product(
                f, x.shape[0] * pooled[0] * pooled[1] * 4, math.prod(w.shape[1:]), x.itemsize, splits=False
            )
            arrays = ready(x), ready(w), ready(b), out, argmax
            _product("conv", "conv_relu_pool_forward", plan, *arrays, f, *pooled, *geometry)
        return out, argmax

    @names_memory
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
        """Gather the convolution's gradient through pooling and ReLU in one kernel, then go on with it."""
        dact = self._max_pool_backward(dout, argmax, out, conv_shape, window, pool_stride)
        return self.conv_backward(dact, x, w, stride, pad, input_grad)

    @names_memory
    def affine_forward(self, x: Array, w: Array, b: Array, relu: bool = False) -> Array:
        """Multiply tiles, the sum over D split where there are few of them."""
        (n, d), m = x.shape, w.shape[1]
        out = cupy.empty((n, m), x.dtype)
        if out.size:
            x, w, b = ready(x), ready(w), ready(b)
            plan = plan_product(n, m, d, x.itemsize, splits=True)
            partial = _partial(plan, n, m, x)
            _product("affine", "affine_forward", plan, x, w, b, out, partial, n, d, m, plan.chunk, int(relu))
            if partial is not None:
                rest = partial, b, out, plan.splits, n, m, int(relu)
                launch("affine", "affine_forward_add", x.dtype, (blocks_for(out.size),), BLOCK, *rest)
        return out

    @names_memory
    def affine_backward(
        self, dout: Array, x: Array, w: Array, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Compute dw and db as one product, db as the row that belongs to a column of ones in x."""
        (n, d), m = x.shape, w.shape[1]
        dout, x, w = ready(dout), ready(x), ready(w)
        both = cupy.empty((d + 1, m), x.dtype)
        self._affine_gradient("affine_weight_gradient", both, n, (dout, x), (n, d, m))
        dx = None
        if input_grad:
            dx = cupy.empty((n, d), x.dtype)
            self._affine_gradient("affine_input_gradient", dx, m, (dout, w), (n, d, m))
        return dx, both[:d], both[d]

    def _affine_gradient(
        self, operation: str, out: Array, depth: int, arrays: tuple[Array, Array], sizes: tuple[int, int, int]
    ) -> None:
        if not out.size:
            return
        rows, columns = out.shape
        plan = plan_product(rows, columns, depth, out.itemsize, splits=True)
        partial = _partial(plan, rows, columns, out)
        _product("affine", operation, plan, *arrays, out, partial, *sizes, plan.chunk)
        if partial is not None:
            rest = partial, out, plan.splits, rows, columns
            launch("affine", "affine_gradient_add", out.dtype, (blocks_for(out.size),), BLOCK, *rest)


def _geometry(x_shape: tuple[int, ...], field: Pair, stride: Pair, pad: Pair) -> tuple[int, ...]:
    """Return the numbers of the kernels' GEOMETRY, the output's height and width last."""
    n, c, h, w = x_shape
    out = output_size(h, field[0], stride[0], pad[0]), output_size(w, field[1], stride[1], pad[1])
    return n, c, h, w, *field, *stride, *pad, *out


def _product(file: str, operation: str, plan: Plan, first: Array, *arguments: Array | int | None) -> None:
    launch(file, f"{operation}_{plan.tile.name}", first.dtype, (plan.tiles, plan.splits), BLOCK, first, *arguments)


def _partial(plan: Plan, rows: int, columns: int, like: Array) -> Array | None:
    return cupy.empty((plan.splits, rows, columns), like.dtype) if plan.splits > 1 else None


def _wide_place(argmax: Array) -> str:
    return "" if argmax.dtype == "uint8" else "_wide"


def _column_pieces(out_shape: tuple[int, ...], taps: int, itemsize: int) -> list[slice]:
    """Return slices of images whose columns fit into COLUMN_BYTES, at least one image each."""
    n, _, out_h, out_w = out_shape
    images = max(COLUMN_BYTES // max(taps * out_h * out_w * itemsize, 1), 1)
    return [slice(first, first + images) for first in range(0, n, images)]
