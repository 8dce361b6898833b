"""The sizes that gconv and PyTorch are timed at: one table for the CPU, one for a GPU."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CPU", "GPU", "SEED", "Convolution", "Shape", "Sizes", "fewer"]

Shape = tuple[int, int, int, int]
Convolution = tuple[Shape, Shape, int, int]  # x, w, stride, pad

SEED: Convolution = ((100, 3, 31, 31), (25, 3, 3, 3), 2, 1)  # the course's comparison


class Sizes(NamedTuple):
    """What is timed on one kind of device."""

    convolutions: dict[str, Convolution]
    sets: int  # inputs of a convolution that are used in turn, so that a cache does not hold what comes next
    steps: tuple[int, ...]  # batches
    epoch: tuple[int, int, int]  # images, batch, images of each kind that an accuracy check looks at
    pooled: Shape
    normalised: Shape
    reads: int  # of what batch normalisation sums: 2 where no cache holds a channel between sum and result
    scores: int  # rows of 10
    updated: int  # values of one parameter
    product: int  # rows and columns
    copied: int  # values


CPU = Sizes(
    convolutions={
        "first layer": ((50, 3, 32, 32), (32, 3, 7, 7), 1, 3),
        "deep": ((50, 64, 32, 32), (64, 64, 3, 3), 1, 1),
        "deep, stride 2": ((50, 64, 32, 32), (128, 64, 3, 3), 2, 1),
        "deep, 1x1": ((50, 128, 16, 16), (256, 128, 1, 1), 1, 0),
    },
    sets=1,
    steps=(50, 200),
    epoch=(3000, 50, 1),
    pooled=(100, 3, 32, 32),
    normalised=(50, 64, 32, 32),
    reads=1,
    scores=200,
    updated=824_000,
    product=2048,
    copied=1 << 28,
)
_LARGE = (512, 64, 64, 64)  # 512 MB in float32, several times an H200's 60 MB of L2
GPU = Sizes(
    convolutions={
        "7x7, 3 to 32, 32x32, batch 50": ((50, 3, 32, 32), (32, 3, 7, 7), 1, 3),
        "3x3, 64 to 64, 32x32, batch 128": ((128, 64, 32, 32), (64, 64, 3, 3), 1, 1),
        "3x3, 128 to 256, 16x16, batch 128": ((128, 128, 16, 16), (256, 128, 3, 3), 1, 1),
        "3x3 stride 2, 64 to 128, 32x32, batch 128": ((128, 64, 32, 32), (128, 64, 3, 3), 2, 1),
        "1x1, 128 to 256, 16x16, batch 128": ((128, 128, 16, 16), (256, 128, 1, 1), 1, 0),
    },
    sets=4,
    steps=(50, 100, 500),
    epoch=(49_000, 100, 1000),
    pooled=_LARGE,
    normalised=_LARGE,
    reads=2,
    scores=4_000_000,
    updated=64_000_000,
    product=8192,
    copied=1 << 29,
)


def fewer(shape: Shape, shrink: int) -> Shape:
    """Return a shape with a ``shrink``-th of its batch."""
    return max(shape[0] // shrink, 1), *shape[1:]
