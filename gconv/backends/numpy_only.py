"""NumPy alone, for machines on which nothing could be compiled: matrix products over bounded pieces of columns."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gconv._checks import output_size
from gconv._typing import Array, Pair
from gconv.backends import numpy_kernels as kernels
from gconv.backends.base import argmax_dtype
from gconv.backends.compositions import Compositions
from gconv.backends.numpy_arrays import NumpyArrays

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
    """The ``cpu`` backend where the compiled kernels are missing."""

    name = "cpu"

    def __init__(self) -> None:
        self._workspace = _Workspace()
        warnings.warn(
            "gconv runs on NumPy alone, several times slower: its compiled kernels are missing. "
            "Install a C++ compiler and gconv again (Debian: apt-get install g++; macOS: xcode-select --install); "
            "`gconv info` tells whether it worked",
            RuntimeWarning,
            stacklevel=2,
        )

    def im2col(self, x: Array, field: Pair, stride: Pair, pad: Pair) -> Array:
        """Return all columns at once, 64-bit sizes throughout."""
        n, c, h, w = x.shape
        out_h = output_size(h, field[0], stride[0], pad[0])
        out_w = output_size(w, field[1], stride[1], pad[1])
        cols = np.empty((c * field[0] * field[1], n * out_h * out_w), x.dtype)
        kernels.im2col_into(x, cols, field, stride, pad, 0, out_h)
        return cols

    def col2im(self, cols: Array, x_shape: tuple[int, ...], field: Pair, stride: Pair, pad: Pair) -> Array:
        """Sum in the order (hh, ww), so the bits do not depend on the threads."""
        x = np.zeros(x_shape, cols.dtype)
        out_h = output_size(x_shape[2], field[0], stride[0], pad[0])
        kernels.col2im_add(cols, x, field, stride, pad, 0, out_h)
        return x

    def conv_forward(self, x: Array, w: Array, b: Array, stride: Pair, pad: Pair, relu: bool = False) -> Array:
        """Return out = w @ columns + b, piece by piece."""
        f, _, hh, ww = w.shape
        n, c, h, width = x.shape
        out_h, out_w = output_size(h, hh, stride[0], pad[0]), output_size(width, ww, stride[1], pad[1])
        k, filters = c * hh * ww, w.reshape(f, c * hh * ww)
        out = np.empty((n, f, out_h, out_w), x.dtype)
        for piece in _pieces(n, out_h, max(k, f) * out_w * x.itemsize):
            images, rows = x[piece.first : piece.last], piece.bottom - piece.top
            cols = self._workspace.array("columns", k, len(images) * rows * out_w, x.dtype)
            kernels.im2col_into(images, cols, (hh, ww), stride, pad, piece.top, piece.bottom)
            product = self._workspace.array("product", f, cols.shape[1], x.dtype)
            np.matmul(filters, cols, out=product)
            target = out[piece.first : piece.last, :, piece.top : piece.bottom]
            np.add(product.reshape(f, len(images), rows, out_w).transpose(1, 0, 2, 3), b[:, None, None], out=target)
        return self._positive(out, relu)

    def conv_backward(
        self, dout: Array, x: Array, w: Array, stride: Pair, pad: Pair, input_grad: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Return dw = dout @ columns^T and dx = col2im(w^T @ dout), piece by piece, columns made again."""
        f, c, hh, ww = w.shape
        n, _, out_h, out_w = dout.shape
        k, filters = c * hh * ww, w.reshape(f, c * hh * ww)
        dx = np.zeros(x.shape, x.dtype) if input_grad else None
        dw, db = np.zeros((f, k), x.dtype), np.zeros(f, x.dtype)
        for piece in _pieces(n, out_h, max(k, f) * out_w * x.itemsize):
            images, rows = x[piece.first : piece.last], piece.bottom - piece.top
            # (F, images * rows * W'), a copy: it meets two products and a sum
            upstream = self._workspace.array("upstream", f, len(images) * rows * out_w, x.dtype)
            part = dout[piece.first : piece.last, :, piece.top : piece.bottom].transpose(1, 0, 2, 3)
            upstream.reshape(part.shape)[...] = part
            cols = self._workspace.array("columns", k, upstream.shape[1], x.dtype)
            where = (hh, ww), stride, pad, piece.top, piece.bottom
            kernels.im2col_into(images, cols, *where)
            dw += upstream @ cols.T
            db += upstream.sum(axis=1)
            if dx is not None:
                np.matmul(filters.T, upstream, out=cols)
                kernels.col2im_add(cols, dx[piece.first : piece.last], *where)
        return dx, dw.reshape(w.shape), db

    def max_pool_forward(self, x: Array, window: Pair, stride: Pair) -> tuple[Array, Array]:
        """Scan each window once for the maximum and its place."""
        n, c, h, w = x.shape
        shape = (n, c, output_size(h, window[0], stride[0]), output_size(w, window[1], stride[1]))
        out, argmax = np.empty(shape, x.dtype), np.empty(shape, argmax_dtype(window))
        kernels.max_pool_forward_into(x, out, argmax, window, stride)
        return out, argmax

    def max_pool_backward(
        self, dout: Array, argmax: Array, x_shape: tuple[int, ...], window: Pair, stride: Pair
    ) -> Array:
        """Send each gradient to the pixel that was the maximum."""
        dx = np.zeros(x_shape, dout.dtype)
        kernels.max_pool_backward_add(dout, argmax, dx, window, stride)
        return dx

    def conv_relu_pool_forward(
        self, x: Array, w: Array, b: Array, stride: Pair, pad: Pair, window: Pair, pool_stride: Pair
    ) -> tuple[Array, Array]:
        """Compose on a few images at a time, so that the activation never leaves the cache."""
        n, f = len(x), len(w)
        conv_h = output_size(x.shape[2], w.shape[2], stride[0], pad[0])
        conv_w = output_size(x.shape[3], w.shape[3], stride[1], pad[1])
        shape = (n, f, output_size(conv_h, window[0], pool_stride[0]), output_size(conv_w, window[1], pool_stride[1]))
        out, argmax = np.empty(shape, x.dtype), np.empty(shape, argmax_dtype(window))
        for images in _blocks(n, f * conv_h * conv_w * x.itemsize):
            composed = super().conv_relu_pool_forward(x[images], w, b, stride, pad, window, pool_stride)
            out[images], argmax[images] = composed
        return out, argmax

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
        """Compose on a few images at a time, adding up the gradients of the filters in their order."""
        n, f, conv_h, conv_w = conv_shape
        dx = np.empty(x.shape, x.dtype) if input_grad else None
        dw, db = np.zeros(w.shape, w.dtype), np.zeros(f, w.dtype)
        for images in _blocks(n, f * conv_h * conv_w * x.itemsize):
            block_shape = (len(dout[images]), f, conv_h, conv_w)
            arrays = dout[images], out[images], argmax[images], x[images], w, block_shape
            block = super().conv_relu_pool_backward(*arrays, stride, pad, window, pool_stride, input_grad)
            if dx is not None:
                dx[images] = block[0]
            dw += block[1]
            db += block[2]
        return dx, dw, db


def _blocks(n: int, bytes_per_image: int) -> Iterator[slice]:
    images = max(PIECE_BYTES // max(bytes_per_image, 1), 1)
    return (slice(first, first + images) for first in range(0, n, images))
