"""Convolutions most of whose windows lie in the padding: only those that meet the image are worked on.

A stride and a pad of 20,000 on a small image make a small output, of windows that are far apart; room for all of the
padding between them would be gigabytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gconv._typing import Array
from gconv.backends.activations import activate
from gconv.backends.base import Backend
from gconv.backends.sums import sum_channels
from gconv.geometry import ConvGeometry

__all__ = ["NearWindows", "conv_backward", "conv_forward", "near_windows"]

FAR = 64  # rows or columns between a window and the image, or between two windows


class NearWindows(NamedTuple):
    """The windows that meet the image: where they are in the output, and their convolution, of an image without pad."""

    geometry: ConvGeometry
    places: tuple[slice, ...]
    image: tuple[slice, ...]  # the part of the image that they look at
    inside: tuple[slice, ...]  # where that lies in the image of ``geometry``

    def of(self, xp: Any, x: Array) -> Array:
        """Return the image of ``geometry``, zeros around what it has of x."""
        out = xp.zeros(self.geometry.x, x.dtype)
        out[(..., *self.inside)] = x[(..., *self.image)]
        return out

    def back(self, xp: Any, values: Array, shape: tuple[int, ...]) -> Array:
        """Return an array of x's shape: the values where ``of`` took them from, and zeros."""
        out = xp.zeros(shape, values.dtype)
        out[(..., *self.image)] = values[(..., *self.inside)]
        return out


def near_windows(g: ConvGeometry) -> NearWindows | None:
    """Return the windows that meet the image; None where that is no gain, as of every usual convolution."""
    if max(g.stride) <= FAR and max(g.pad) <= FAR:
        return None
    fields = [d * (k - 1) + 1 for k, d in zip(g.w[2:], g.dilation, strict=True)]
    far = [
        pad >= field + FAR or (stride > FAR and out <= 1)
        for pad, field, stride, out in zip(g.pad, fields, g.stride, g.out[2:], strict=True)
    ]
    if not any(far) or 0 in g.out:
        return None
    axes = [_axis(*sizes) for sizes in zip(g.x[2:], fields, g.stride, g.pad, g.out[2:], strict=True)]
    sizes, counts, strides, places, image, inside = zip(*axes, strict=True)
    geometry = g._replace(x=(*g.x[:2], *sizes), out=(*g.out[:2], *counts), stride=strides, pad=(0,) * len(sizes))
    return NearWindows(geometry, places, image, inside)


def _axis(size: int, field: int, stride: int, pad: int, out: int) -> tuple[int, int, int, slice, slice, slice]:
    """Return of one axis: image size, windows, stride, and the slices of NearWindows."""
    first = max(0, -((field - 1 - pad) // stride))  # the first that ends past the image's beginning
    last = min(out, (size - 1 + pad) // stride + 1)
    count = max(last - first, 0)
    if not count:
        return field, 0, 1, slice(0, 0), slice(0, 0), slice(0, 0)
    begin = first * stride - pad
    length = (count - 1) * stride + field
    low, high = max(begin, 0), min(begin + length, size)
    return (
        length, count, stride if count > 1 else 1,
        slice(first, last), slice(low, high), slice(low - begin, high - begin),
    )  # fmt: skip


def conv_forward(
    backend: Backend, near: NearWindows, x: Array, w: Array, b: Array | None, g: ConvGeometry, activation: str | None
) -> Array:
    """Return the output: of a window of zeros it is the bias, and NaN where a weight is not finite."""
    xp = backend.xp
    with np.errstate(invalid="ignore"):
        empty = (w * 0).reshape(len(w), -1).sum(axis=1)
    if b is not None:
        empty = empty + b
    out = xp.empty(g.out, x.dtype)
    out[...] = activate("conv_forward", xp, empty, activation).reshape(-1, *(1,) * (len(g.out) - 2))
    if 0 not in near.geometry.out:
        out[(..., *near.places)] = backend.conv_forward(near.of(xp, x), w, b, near.geometry, activation)
    return out


def conv_backward(
    backend: Backend, near: NearWindows, dout: Array, x: Array, w: Array, g: ConvGeometry, input_grad: bool
) -> tuple[Array | None, Array, Array]:
    """Return the gradients: a window of zeros adds to that of the bias alone."""
    xp = backend.xp
    db = sum_channels(xp, dout.reshape(*g.out[:2], -1))
    outside = dout.copy()
    outside[(..., *near.places)] = 0
    with np.errstate(invalid="ignore"):
        # 0, or NaN where a gradient that is not finite meets zeros
        zeros = sum_channels(xp, (outside * 0).reshape(*g.out[:2], -1)).reshape(-1, *(1,) * (len(w.shape) - 1))
    if 0 in near.geometry.out:
        return xp.zeros(g.x, x.dtype) if input_grad else None, xp.zeros(w.shape, w.dtype) + zeros, db
    upstream = xp.ascontiguousarray(dout[(..., *near.places)])
    dx, dw, _ = backend.conv_backward(upstream, near.of(xp, x), w, near.geometry, input_grad)
    return dx if dx is None else near.back(xp, dx, g.x), dw + zeros, db
