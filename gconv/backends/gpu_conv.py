"""Convolution, pooling and affine layers on CuPy arrays."""

from __future__ import annotations

import math

import cupy

from gconv._typing import Array
from gconv.backends import far_windows
from gconv.backends.activations import activation_code
from gconv.backends.base import argmax_dtype
from gconv.backends.compositions import Compositions
from gconv.backends.cuda_module import Argument, launch
from gconv.backends.far_windows import near_windows
from gconv.backends.gpu_geometry import conv_numbers, pool_numbers
from gconv.backends.gpu_plan import Plan, blocks_for, plan_product
from gconv.geometry import ConvGeometry, PoolGeometry, check_planar

__all__ = ["BLOCK", "GpuConvolution", "ready"]

BLOCK = (256,)
MAX_GRID_Y = 65535  # CUDA's limit


def ready(x: Array) -> Array:
    """Return ``x`` as the kernels take it: C-contiguous, copied only if it is not."""
    return cupy.ascontiguousarray(x)


class GpuConvolution(Compositions):
    """The part of GpuBackend whose work is matrix products and windows."""

    def im2col(self, x: Array, geometry: ConvGeometry) -> Array:
        """Return all columns at once, a thread per value."""
        check_planar("im2col", geometry)
        n, _, out_h, out_w = geometry.out
        cols = cupy.empty((math.prod(geometry.w[1:]), n * out_h * out_w), x.dtype)
        if cols.size:
            arguments = ready(x), cols, conv_numbers(geometry)
            launch("im2col", "im2col", x.dtype, (blocks_for(cols.size),), BLOCK, *arguments)
        return cols

    def col2im(self, cols: Array, geometry: ConvGeometry) -> Array:
        """Gather: a thread per pixel sums in the order (hh, ww), without atomics."""
        check_planar("col2im", geometry)
        x = cupy.empty(geometry.x, cols.dtype)
        if x.size:
            arguments = ready(cols), x, conv_numbers(geometry)
            launch("im2col", "col2im", x.dtype, (blocks_for(x.size),), BLOCK, *arguments)
        return x

    def conv_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None = None
    ) -> Array:
        """Multiply implicitly: the loads compute where the values of the columns lie."""
        check_planar("conv_forward", geometry)
        near = near_windows(geometry)
        if near is not None:
            return far_windows.conv_forward(self, near, x, w, b, geometry, activation)
        code, out = activation_code("conv_forward", activation), cupy.empty(geometry.out, x.dtype)
        if out.size:
            f, taps = geometry.w[0], math.prod(geometry.w[1:])
            plan = plan_product(f, out.size // f, taps, x.itemsize, splits=False)
            arrays = ready(x), ready(w), _bias(b, w), out
            _product("conv", "conv_forward", plan, *arrays, f, code, conv_numbers(geometry))
        return out

    def conv_backward(
        self, dout: Array, x: Array, w: Array, geometry: ConvGeometry, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Sum the filters' gradient over splits of the pixels, in a fixed order; gather the input's."""
        check_planar("conv_backward", geometry)
        near = near_windows(geometry)
        if near is not None:
            return far_windows.conv_backward(self, near, dout, x, w, geometry, input_grad)
        dout, x, w = ready(dout), ready(x), ready(w)
        f, taps, numbers = geometry.w[0], math.prod(geometry.w[1:]), conv_numbers(geometry)
        dw, db = cupy.empty(w.shape, w.dtype), cupy.empty(f, w.dtype)
        if f:
            plan = plan_product(f, taps + 1, dout.size // f, x.itemsize, splits=True)
            partial = _partial(plan, f, taps + 1, x)
            _product("conv", "conv_filter_gradient", plan, dout, x, dw, db, partial, f, plan.chunk, numbers)
            if partial is not None:
                rest = partial, dw, db, plan.splits, f, taps
                launch("conv", "conv_filter_gradient_add", x.dtype, (blocks_for(f * (taps + 1)),), BLOCK, *rest)
        if not input_grad:
            return None, dw, db
        dx = cupy.empty(x.shape, x.dtype)
        if dx.size:
            (n, c, h, width), (stride_y, stride_x) = geometry.x, geometry.stride
            # the largest class of pixels: a class has every stride-th row and column
            largest = n * -(-h // stride_y) * -(-width // stride_x)
            plan = plan_product(c, largest, f * math.prod(geometry.w[2:]), x.itemsize, splits=False)
            classes = min(stride_y * stride_x, MAX_GRID_Y)
            _product("conv", "conv_input_gradient", plan._replace(splits=classes), dout, w, dx, f, largest, numbers)
        return dx, dw, db

    def max_pool_forward(self, x: Array, pool: PoolGeometry) -> tuple[Array, Array]:
        """Scan each window once, a thread per window."""
        check_planar("max_pool_forward", pool)
        return self._max_pool_forward(x, pool, with_relu=False)

    def _max_pool_forward(self, x: Array, pool: PoolGeometry, with_relu: bool) -> tuple[Array, Array]:
        out, argmax = cupy.empty(pool.out, x.dtype), cupy.empty(pool.out, argmax_dtype(pool.window))
        if out.size:
            arguments = ready(x), out, argmax, int(with_relu), pool_numbers(pool)
            operation = f"max_pool_forward_{_places(argmax)}"
            launch("max_pool", operation, x.dtype, (blocks_for(out.size),), BLOCK, *arguments)
        return out, argmax

    def max_pool_backward(self, dout: Array, argmax: Array, pool: PoolGeometry) -> Array:
        """Gather: a thread per pixel looks at the windows that hold it, without atomics."""
        check_planar("max_pool_backward", pool)
        return self._max_pool_backward(dout, argmax, None, pool)

    def _max_pool_backward(self, dout: Array, argmax: Array, out: Array | None, pool: PoolGeometry) -> Array:
        dx = cupy.empty(pool.x, dout.dtype)
        if dx.size:
            arrays = ready(dout), ready(argmax), out if out is None else ready(out), dx
            operation = f"max_pool_backward_{_places(argmax)}"
            launch("max_pool", operation, dx.dtype, (blocks_for(dx.size),), BLOCK, *arrays, pool_numbers(pool))
        return dx

    def conv_relu_pool_forward(
        self, x: Array, w: Array, b: Array | None, conv: ConvGeometry, pool: PoolGeometry
    ) -> tuple[Array, Array]:
        """Do 2 x 2 pooling in the convolution's own kernel, any other in a second one."""
        check_planar("conv_relu_pool_forward", conv)
        if pool.window != (2, 2) or pool.stride != (2, 2):
            return self._max_pool_forward(self.conv_forward(x, w, b, conv), pool, with_relu=True)
        out, argmax = cupy.empty(pool.out, x.dtype), cupy.empty(pool.out, "uint8")
        if out.size:
            f, taps = conv.w[0], math.prod(conv.w[1:])
            plan = plan_product(f, out.size // f * 4, taps, x.itemsize, splits=False)
            arrays = ready(x), ready(w), _bias(b, w), out, argmax
            _product("conv", "conv_relu_pool_forward", plan, *arrays, f, conv_numbers(conv), pool_numbers(pool))
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
        """Gather the convolution's gradient through pooling and ReLU in one kernel, then go on with it."""
        check_planar("conv_relu_pool_backward", conv)
        return self.conv_backward(self._max_pool_backward(dout, argmax, out, pool), x, w, conv, input_grad)

    def affine_forward(self, x: Array, w: Array, b: Array | None, activation: str | None = None) -> Array:
        """Multiply tiles, the sum over D split where there are few of them."""
        (n, d), m, code = x.shape, w.shape[1], activation_code("affine_forward", activation)
        out = cupy.empty((n, m), x.dtype)
        if out.size:
            x, w, b = ready(x), ready(w), b if b is None else ready(b)
            plan = plan_product(n, m, d, x.itemsize, splits=True)
            partial = _partial(plan, n, m, x)
            _product("affine", "affine_forward", plan, x, w, b, out, partial, n, d, m, plan.chunk, code)
            if partial is not None:
                rest = partial, b, out, plan.splits, n, m, code
                launch("affine", "affine_forward_add", x.dtype, (blocks_for(out.size),), BLOCK, *rest)
        return out

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


def _product(file: str, operation: str, plan: Plan, first: Array, *arguments: Argument) -> None:
    launch(file, f"{operation}_{plan.tile.name}", first.dtype, (plan.tiles, plan.splits), BLOCK, first, *arguments)


def _bias(b: Array | None, w: Array) -> Array:
    """Return the bias as the kernels of convolution take it, which always add one."""
    return cupy.zeros(len(w), w.dtype) if b is None else ready(b)


def _partial(plan: Plan, rows: int, columns: int, like: Array) -> Array | None:
    return cupy.empty((plan.splits, rows, columns), like.dtype) if plan.splits > 1 else None


def _places(argmax: Array) -> str:
    """Return how an entry point is called that takes places of such a dtype."""
    return "bytes" if argmax.dtype == "uint8" else "ints"
