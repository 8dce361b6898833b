"""Geometries as the structures that the CUDA kernels take, those of kernels/cuda/geometry.cuh."""

from __future__ import annotations

from typing import NamedTuple

from gconv.geometry import ConvGeometry, PoolGeometry

__all__ = ["ConvNumbers", "PoolNumbers", "conv_numbers", "pool_numbers"]


class ConvNumbers(NamedTuple):
    """The fields of the kernels' ConvGeometry, in their order."""

    n: int
    c: int
    h: int
    w: int
    hh: int
    ww: int
    stride_y: int
    stride_x: int
    pad_y: int
    pad_x: int
    out_h: int
    out_w: int


class PoolNumbers(NamedTuple):
    """The fields of the kernels' PoolGeometry, in their order."""

    planes: int
    h: int
    w: int
    window_h: int
    window_w: int
    stride_y: int
    stride_x: int
    out_h: int
    out_w: int


def conv_numbers(geometry: ConvGeometry) -> ConvNumbers:
    """Return the kernels' numbers of a convolution of images."""
    return ConvNumbers(*geometry.x, *geometry.w[2:], *geometry.stride, *geometry.pad, *geometry.out[2:])


def pool_numbers(pool: PoolGeometry) -> PoolNumbers:
    """Return the kernels' numbers of a pooling of images."""
    n, c, *image = pool.x
    return PoolNumbers(n * c, *image, *pool.window, *pool.stride, *pool.out[2:])
