"""NumPy alone, for machines on which nothing could be compiled: matrix products over bounded pieces of columns."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gconv._typing import Array
from gconv.backends import numpy_kernels as kernels
from gconv.backends.activations import activate
from gconv.backends.base import argmax_dtype
from gconv.backends.compositions import Compositions
from gconv.backends.numpy_arrays import NumpyArrays
from gconv.geometry import ConvGeometry, PoolGeometry, check_planar

__all__ = ["NumpyBackend"]

# Column matrices are made piece by piece, so that memory does not grow with the batch. Pieces of 1 to 16 MB
# took the same time within a tenth.
PIECE_BYTES = 4 << 20


class Piece(NamedTuple):
    """Whole images [first, last), or the output rows [top, bottom) of a single image."""

    first: int
    last: int
    top: int
    bottom: int


def _pieces(n: int, rows: int, bytes_per_row: int) -> Iterator[Piece]:
    per_image = max(rows * bytes_per_row, 1)
    if per_image <= PIECE_BYTES:
        images = PIECE_BYTES // per_image
        for first in range(0, n, images):
            yield Piece(first, min(first + images, n), 0, rows)
        return
    band = max(PIECE_BYTES // bytes_per_row, 1)
    for image in range(n):
        for top in range(0, rows, band):
            yield Piece(image, image + 1, top, min(top + band, rows))


class _Workspace(threading.local):
    """Buffers that a thread keeps for its next piece or call: fresh pages cost more than the copy into them.

    Three buffers of PIECE_BYTES at most, or of one row of pixels where that is larger, a thread.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}

    def array(self, name: str, rows: int, columns: int, dtype: np.dtype[Any]) -> Array:
        """Return an uninitialised C-contiguous (rows, columns) array, valid until the next call for ``name``."""
        size = rows * columns * dtype.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        return buffer[:size].view(dtype).reshape(rows, columns)


class NumpyBackend(NumpyArrays, Compositions):
    """The ``cpu`` backend where the compiled kernels are missing; the first one in a process warns of that."""

    name = "cpu"
    has_warned = False

    def __init__(self) -> None:
        self._workspace = _Workspace()
        if not NumpyBackend.has_warned:
            # Before the warning: where that is made an exception, what is called next is to work.
            NumpyBackend.has_warned = True
            warnings.warn(
                "gconv runs on NumPy alone, several times slower: its compiled kernels are missing. "
                "Install a C++ compiler and gconv again (Debian: apt-get install g++; macOS: xcode-select --install); "
                "`gconv info` tells whether it worked",
                RuntimeWarning,
                stacklevel=2,
            )

    def im2col(self, x: Array, geometry: ConvGeometry) -> Array:
        """Return all columns at once, 64-bit sizes throughout."""
        check_planar("im2col", geometry)
        n, _, out_h, out_w = geometry.out
        cols = np.empty((math.prod(geometry.w[1:]), n * out_h * out_w), x.dtype)
        kernels.im2col_into(x, cols, geometry, 0, out_h)
        return cols

    def col2im(self, cols: Array, geometry: ConvGeometry) -> Array:
        """Sum in the order (hh, ww), so the bits do not depend on the threads."""
        check_planar("col2im", geometry)
        x = np.zeros(geometry.x, cols.dtype)
        kernels.col2im_add(cols, x, geometry, 0, geometry.out[2])
        return x

    def conv_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None = None
    ) -> Array:
        """Return out = w @ columns + b, piece by piece."""
        check_planar("conv_forward", geometry)
        (n, f, out_h, out_w), k = geometry.out, math.prod(geometry.w[1:])
        filters, out = w.reshape(f, k), np.empty(geometry.out, x.dtype)
        for piece in _pieces(n, out_h, max(k, f) * out_w * x.itemsize):
            images, rows = x[piece.first : piece.last], piece.bottom - piece.top
            cols = self._workspace.array("columns", k, len(images) * rows * out_w, x.dtype)
            kernels.im2col_into(images, cols, geometry, piece.top, piece.bottom)
            product = self._workspace.array("product", f, cols.shape[1], x.dtype)
            np.matmul(filters, cols, out=product)
            target = out[piece.first : piece.last, :, piece.top : piece.bottom]
            ordered = product.reshape(f, len(images), rows, out_w).transpose(1, 0, 2, 3)
            np.add(ordered, 0 if b is None else b[:, None, None], out=target)
        return activate("conv_forward", np, out, activation)

    def conv_backward(
        self, dout: Array, x: Array, w: Array, geometry: ConvGeometry, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Return dw = dout @ columns^T and dx = col2im(w^T @ dout), piece by piece, columns made again."""
        check_planar("conv_backward", geometry)
        (n, f, out_h, out_w), k = geometry.out, math.prod(geometry.w[1:])
        filters, dx = w.reshape(f, k), np.zeros(x.shape, x.dtype) if input_grad else None
        dw, db = np.zeros((f, k), x.dtype), np.zeros(f, x.dtype)
        for piece in _pieces(n, out_h, max(k, f) * out_w * x.itemsize):
            images, rows = x[piece.first : piece.last], piece.bottom - piece.top
            # (F, images * rows * W'), a copy: it meets two products and a sum
            upstream = self._workspace.array("upstream", f, len(images) * rows * out_w, x.dtype)
            part = dout[piece.first : piece.last, :, piece.top : piece.bottom].transpose(1, 0, 2, 3)
            upstream.reshape(part.shape)[...] = part
            cols = self._workspace.array("columns", k, upstream.shape[1], x.dtype)
            kernels.im2col_into(images, cols, geometry, piece.top, piece.bottom)
            dw += upstream @ cols.T
            db += upstream.sum(axis=1)
            if dx is not None:
                np.matmul(filters.T, upstream, out=cols)
                kernels.col2im_add(cols, dx[piece.first : piece.last], geometry, piece.top, piece.bottom)
        return dx, dw.reshape(w.shape), db

    def max_pool_forward(self, x: Array, pool: PoolGeometry) -> tuple[Array, Array]:
        """Scan each window once for the maximum and its place."""
        check_planar("max_pool_forward", pool)
        out, argmax = np.empty(pool.out, x.dtype), np.empty(pool.out, argmax_dtype(pool.window))
        kernels.max_pool_forward_into(x, out, argmax, pool)
        return out, argmax

    def max_pool_backward(self, dout: Array, argmax: Array, pool: PoolGeometry) -> Array:
        """Send each gradient to the pixel that was the maximum."""
        check_planar("max_pool_backward", pool)
        dx = np.zeros(pool.x, dout.dtype)
        kernels.max_pool_backward_add(dout, argmax, dx, pool)
        return dx

    def conv_relu_pool_forward(
        self, x: Array, w: Array, b: Array | None, conv: ConvGeometry, pool: PoolGeometry
    ) -> tuple[Array, Array]:
        """Compose on a few images at a time, so that the activation never leaves the cache."""
        check_planar("conv_relu_pool_forward", conv)
        out, argmax = np.empty(pool.out, x.dtype), np.empty(pool.out, argmax_dtype(pool.window))
        for images in _blocks(len(x), math.prod(conv.out[1:]) * x.itemsize):
            n = len(x[images])
            composed = super().conv_relu_pool_forward(x[images], w, b, conv.of_images(n), pool.of_images(n))
            out[images], argmax[images] = composed
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
        """Compose on a few images at a time, adding up the gradients of the filters in their order."""
        check_planar("conv_relu_pool_backward", conv)
        dx = np.empty(x.shape, x.dtype) if input_grad else None
        dw, db = np.zeros(w.shape, w.dtype), np.zeros(len(w), w.dtype)
        for images in _blocks(len(x), math.prod(conv.out[1:]) * x.itemsize):
            n, arrays = len(x[images]), (dout[images], out[images], argmax[images], x[images], w)
            block = super().conv_relu_pool_backward(*arrays, conv.of_images(n), pool.of_images(n), input_grad)
            if dx is not None:
                dx[images] = block[0]
            dw += block[1]
            db += block[2]
        return dx, dw, db


def _blocks(n: int, bytes_per_image: int) -> Iterator[slice]:
    images = max(PIECE_BYTES // max(bytes_per_image, 1), 1)
    return (slice(first, first + images) for first in range(0, n, images))
