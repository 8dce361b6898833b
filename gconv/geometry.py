"""The sizes of convolutions and poolings in 1 to 3 dimensions, worked out and checked once a call, then passed whole.

Whoever is given a geometry relies on it: sizes are computed nowhere else but in the naive loops, which count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from operator import index
from typing import Any, NamedTuple

from gconv._checks import check_ndim, integer, known_keys, param
from gconv._typing import Array, Sizes

__all__ = [
    "ConvGeometry",
    "PoolGeometry",
    "check_planar",
    "conv_geometry",
    "conv_param_geometry",
    "output_size",
    "per_axis",
    "pool_geometry",
    "pool_param_geometry",
    "window_geometry",
]

LARGEST_SIZE = 2**60  # 8 bytes each: sizes in bytes still fit into 64 bits with a sign
LARGEST_STEP = 2**31  # strides and pads: the kernels multiply these with sizes in 64 bits
CONV_KEYS = dict.fromkeys(("stride", "pad")).keys()
POOL_KEYS = dict.fromkeys(("pool_height", "pool_width", "stride")).keys()
AXES = {2: "(vertical, horizontal) pair", 3: "(depth, vertical, horizontal) triple"}


class ConvGeometry(NamedTuple):
    """The sizes of one convolution, or of the windows that it looks at: one value per spatial axis, outermost first.

    x : ``(N, C, *image)``; w : ``(F, C / groups, *filter)``; out : ``(N, F, *output)``.
    """

    x: Sizes
    w: Sizes
    out: Sizes
    stride: Sizes
    pad: Sizes
    dilation: Sizes
    groups: int

    def of_images(self, n: int) -> ConvGeometry:
        """Return the same convolution of ``n`` images."""
        if n == self.x[0]:
            return self
        return self._replace(x=(n, *self.x[1:]), out=(n, *self.out[1:]))


class PoolGeometry(NamedTuple):
    """The sizes of one pooling, window and stride per spatial axis: x ``(N, C, *image)``, out ``(N, C, *output)``."""

    x: Sizes
    out: Sizes
    window: Sizes
    stride: Sizes

    def of_images(self, n: int) -> PoolGeometry:
        """Return the same pooling of ``n`` images."""
        if n == self.x[0]:
            return self
        return self._replace(x=(n, *self.x[1:]), out=(n, *self.out[1:]))

    def places(self) -> Iterator[tuple[slice, ...]]:
        """Yield, for each place in the window in row-major order, the pixels that all windows have there."""
        for place in product(*map(range, self.window)):
            axes = zip(place, self.out[2:], self.stride, strict=True)
            yield slice(None), slice(None), *(slice(at, at + step * count, step) for at, count, step in axes)

    def columns(self) -> ConvGeometry:
        """Return the geometry whose columns are the windows: every channel is an image of its own."""
        images, image, axes = self.x[0] * self.x[1], self.x[2:], len(self.window)
        return ConvGeometry(
            (images, 1, *image), (1, 1, *self.window), (images, 1, *self.out[2:]), self.stride,
            (0,) * axes, (1,) * axes, 1,
        )  # fmt: skip


def output_size(size: int, field: int, stride: int, pad: int = 0, dilation: int = 1) -> int:
    """Return H' = 1 + (H + 2 pad - dilation (HH - 1) - 1) // stride, the number of places that a window takes.

    It is below 1 where the window does not fit into the padded image.

    >>> output_size(32, 7, 1, 3), output_size(31, 3, 2, 1), output_size(7, 2, 2), output_size(7, 3, 1, dilation=3)
    (32, 16, 3, 1)
    """
    return 1 + (size + 2 * pad - dilation * (field - 1) - 1) // stride


def per_axis(func: str, name: str, value: Any, axes: int, minimum: int) -> Sizes:
    """Return one int of at least ``minimum`` per spatial axis from an int, or from a tuple or list of so many.

    >>> per_axis("demo", "stride", 2, 2, 1), per_axis("demo", "pad", [0, 1, 2], 3, 0)
    ((2, 2), (0, 1, 2))
    """
    if type(value) is int and minimum <= value < LARGEST_STEP:
        return (value,) * axes
    if isinstance(value, (tuple, list)):
        if len(value) != axes:
            several = AXES.get(axes, "tuple of one")
            raise ValueError(f"{func}: {name} must be an integer or a {several}; got {value!r}")
        return tuple([_step(func, name, item, minimum) for item in value])
    return (_step(func, name, value, minimum),) * axes


def _step(func: str, name: str, value: Any, minimum: int) -> int:
    number = integer(func, name, value, minimum)
    if number >= LARGEST_STEP:
        raise ValueError(f"{func}: {name} must be below 2**31; got {value!r}")
    return number


def conv_geometry(
    func: str, x_shape: Sizes, w_shape: Sizes, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: Any = 1
) -> ConvGeometry:
    """Check the sizes of a convolution in 1 to 3 dimensions and work out the output's.

    Parameters
    ----------
    func : str
        Named in errors.
    x_shape : tuple
        ``(N, C, *image)``
    w_shape : tuple
        ``(F, C / groups, *filter)``
    stride, pad, dilation : int or one per spatial axis
        Pixels between two windows; zeros on each side; pixels between two taps of a filter.
    groups : int
        Parts of the channels, each of which meets its own part of the filters.

    Raises
    ------
    ValueError
        If shapes do not match, the filter is larger than the padded image, or a number is out of range.
    TypeError
        If a number is no integer.

    Examples
    --------
    >>> conv_geometry("demo", (8, 4, 32), (6, 2, 3), pad=1, groups=2).out
    (8, 6, 32)
    """
    axes = _spatial_axes(func, x_shape)
    if len(w_shape) != axes + 2:
        raise ValueError(
            f"{func}: w must have {axes + 2} axes (F, C, ...) to match x {tuple(x_shape)}; got shape {tuple(w_shape)}"
        )
    steps = per_axis(func, "stride", stride, axes, 1), per_axis(func, "pad", pad, axes, 0)
    dilations, parts = per_axis(func, "dilation", dilation, axes, 1), integer(func, "groups", groups, 1)
    if x_shape[1] % parts:
        raise ValueError(f"{func}: groups must divide the {x_shape[1]} channels of x; got {groups!r}")
    if w_shape[0] % parts:
        raise ValueError(f"{func}: groups must divide the {w_shape[0]} filters of w; got {groups!r}")
    return _convolution(func, tuple(x_shape), tuple(w_shape), *steps, dilations, parts)


def conv_param_geometry(func: str, x: Array, w: Array, conv_param: Any, b: Array | None = None) -> ConvGeometry:
    """Check the arguments of the course's convolution of images and return its sizes."""
    check_ndim(func, "x", x, 4, "(N, C, H, W)")
    check_ndim(func, "w", w, 4, "(F, C, HH, WW)")
    stride = per_axis(func, "conv_param['stride']", param(func, "conv_param", conv_param, "stride"), 2, 1)
    pad = per_axis(func, "conv_param['pad']", param(func, "conv_param", conv_param, "pad"), 2, 0)
    known_keys(func, "conv_param", conv_param, CONV_KEYS)
    return _convolution(func, x.shape, w.shape, stride, pad, (1, 1), 1, b)


def _convolution(
    func: str,
    x: Sizes,
    w: Sizes,
    stride: Sizes,
    pad: Sizes,
    dilation: Sizes,
    groups: int,
    b: Array | None = None,
) -> ConvGeometry:
    filters, channels, *field = w
    if channels * groups != x[1]:
        raise ValueError(f"{func}: w must have {x[1] // groups} channels to match x {x}; got w {w}")
    if min(field) < 1:
        raise ValueError(f"{func}: w must have filters of at least {_by((1,) * len(field))}; got w {w}")
    if b is not None and b.shape != (filters,):
        raise ValueError(f"{func}: b must have shape {(filters,)} to match w {w}; got {tuple(b.shape)}")
    # output_size, written out: this is most of what a call of a layer on a small array does in Python
    out = [
        1 + (size + 2 * zeros - apart * (taps - 1) - 1) // step
        for size, taps, step, zeros, apart in zip(x[2:], field, stride, pad, dilation)  # noqa: B905
    ]
    if min(out) < 1:
        apart = "" if max(dilation) == 1 else f" with dilation {_by(dilation)}"
        raise ValueError(
            f"{func}: w must fit into the padded image {_by(_padded(x, pad))}; got filters {_by(field)}{apart}"
        )
    shape = (x[0], filters, *out)
    if math.prod(shape) >= LARGEST_SIZE:
        raise ValueError(f"{func}: the output must have fewer than 2**60 values, what memory can address; got {shape}")
    return ConvGeometry(x, w, shape, stride, pad, dilation, groups)


def window_geometry(
    func: str, x_shape: Sizes, field_height: Any, field_width: Any, padding: Any, stride: Any
) -> ConvGeometry:
    """Check the arguments of the course's im2col and return the sizes, of one filter of the windows' size."""
    if len(x_shape) != 4:
        raise ValueError(f"{func}: x must have 4 axes (N, C, H, W); got shape {tuple(x_shape)}")
    field = integer(func, "field_height", field_height, 1), integer(func, "field_width", field_width, 1)
    pad, step = per_axis(func, "padding", padding, 2, 0), per_axis(func, "stride", stride, 2, 1)
    x = tuple(map(index, x_shape))
    out = [output_size(*sizes) for sizes in zip(x[2:], field, step, pad, strict=True)]
    if min(out) < 1:
        raise ValueError(f"{func}: the window must fit into the padded image {_by(_padded(x, pad))}; got {_by(field)}")
    return ConvGeometry(x, (1, x[1], *field), (x[0], 1, *out), step, pad, (1, 1), 1)


def pool_geometry(func: str, x_shape: Sizes, window: Any, stride: Any) -> PoolGeometry:
    """Check the sizes of a pooling in 1 to 3 dimensions and work out the output's.

    Parameters
    ----------
    func : str
        Named in errors.
    x_shape : tuple
        ``(N, C, *image)``
    window, stride : int or one per spatial axis
        The window's size; pixels between two windows.

    Raises
    ------
    ValueError
        If the window does not fit into the image, or a number is out of range.
    TypeError
        If a number is no integer.

    Examples
    --------
    >>> pool_geometry("demo", (8, 4, 9, 32), (3, 2), 2).out
    (8, 4, 4, 16)
    """
    axes = _spatial_axes(func, x_shape)
    return _pooling(
        func, tuple(x_shape), per_axis(func, "window", window, axes, 1), per_axis(func, "stride", stride, axes, 1)
    )


def pool_param_geometry(func: str, x_shape: Sizes, pool_param: Any) -> PoolGeometry:
    """Check the arguments of the course's pooling of images and return its sizes."""
    if len(x_shape) != 4:
        raise ValueError(f"{func}: x must have 4 axes (N, C, H, W); got shape {tuple(x_shape)}")
    height = _step(func, "pool_param['pool_height']", param(func, "pool_param", pool_param, "pool_height"), 1)
    width = _step(func, "pool_param['pool_width']", param(func, "pool_param", pool_param, "pool_width"), 1)
    stride = per_axis(func, "pool_param['stride']", param(func, "pool_param", pool_param, "stride"), 2, 1)
    known_keys(func, "pool_param", pool_param, POOL_KEYS)
    return _pooling(func, x_shape, (height, width), stride)


def _pooling(func: str, x: Sizes, window: Sizes, stride: Sizes) -> PoolGeometry:
    out = [1 + (size - taps) // step for size, taps, step in zip(x[2:], window, stride)]  # noqa: B905
    if min(out) < 1:
        raise ValueError(f"{func}: the pooling window must fit into the image {_by(x[2:])}; got {_by(window)}")
    return PoolGeometry(x, (x[0], x[1], *out), window, stride)


def check_planar(func: str, geometry: ConvGeometry | PoolGeometry) -> None:
    """Raise ValueError for a geometry that the kernels do not know; the naive loops know them all."""
    axes = len(geometry.stride)
    if axes != 2:
        raise ValueError(f"{func}: geometry must have 2 spatial axes, other kernels are missing; got {axes}")
    if type(geometry) is ConvGeometry and (geometry.groups != 1 or geometry.dilation != (1, 1)):
        raise ValueError(
            f"{func}: geometry must have dilation 1 and one group, other kernels are missing; "
            f"got dilation {_by(geometry.dilation)} and {geometry.groups} groups"
        )


def _spatial_axes(func: str, x_shape: Sizes) -> int:
    axes = len(x_shape) - 2
    if not 1 <= axes <= 3:
        raise ValueError(f"{func}: x must have 3 to 5 axes (N, C, and 1 to 3 spatial ones); got shape {tuple(x_shape)}")
    return axes


def _padded(x: Sizes, pad: Sizes) -> Sizes:
    return tuple(size + 2 * zeros for size, zeros in zip(x[2:], pad, strict=True))


def _by(sizes: Any) -> str:
    return "x".join(map(str, sizes))
