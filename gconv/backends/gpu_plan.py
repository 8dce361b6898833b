"""How a matrix product is cut into blocks on a GPU, and how many blocks other work gets.

Everything here depends on shapes alone, so the same inputs give the same bits on every device.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "FEW_CLASSES",
    "GATHER_BLOCKS",
    "LARGE_PLANE",
    "SPLIT_BYTES",
    "Plan",
    "Tile",
    "blocks_for",
    "channel_parts",
    "plan_product",
]

# Workspace of a product whose sum is split over blocks.
SPLIT_BYTES = 32 << 20
# Enough blocks for some four on each of the 132 multiprocessors of an H200.
BUSY_BLOCKS = 512
# A grid-stride loop's blocks of 256 threads: sixteen a multiprocessor, 2^20 threads at most.
GATHER_BLOCKS = 4096
# From so many pixels on a plane is worth a block; up to so many classes a sample is worth a thread only.
LARGE_PLANE, FEW_CLASSES = 32, 32


class Tile(NamedTuple):
    """A kernel's variant: its suffix, and the rows, columns and depth that a block works on at a time."""

    name: str
    rows: int
    columns: int
    depth: int


STRIP, SQUARE, LARGE = Tile("strip", 32, 128, 16), Tile("square", 64, 64, 16), Tile("large", 128, 128, 8)


class Plan(NamedTuple):
    """The variant, the number of tiles, over how many blocks a tile's sum is split, and a split's depth."""

    tile: Tile
    tiles: int
    splits: int
    chunk: int


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def plan_product(rows: int, columns: int, depth: int, itemsize: int, splits: bool) -> Plan:
    """Choose the tile of a product (rows, depth) x (depth, columns), and over how many blocks its sum is split.

    Reasoned, not measured: 128 x 128 does 64 multiplications for 4 reads of shared memory, 64 x 64 16 for 2, but
    a large tile pays only where it fills the device; 32 x 128 wastes no rows of a first layer's 32 filters.
    """
    if rows <= 32:
        tile = STRIP
    elif rows > 64 and columns > 64 and _ceil(rows, 128) * _ceil(columns, 128) >= BUSY_BLOCKS // 4:
        tile = LARGE
    else:
        tile = SQUARE
    across, down = _ceil(columns, tile.columns), _ceil(rows, tile.rows)
    parts = 1
    if splits:
        # no split below eight panels, nor past the workspace
        room = SPLIT_BYTES // (rows * columns * itemsize)
        parts = min(BUSY_BLOCKS // (across * down), depth // (8 * tile.depth), room)
    chunk = _ceil(_ceil(max(depth, 1), max(parts, 1)), tile.depth) * tile.depth
    return Plan(tile, across * down, _ceil(max(depth, 1), chunk), chunk)


def blocks_for(size: int, threads: int = 256) -> int:
    """Return how many blocks a grid-stride loop over ``size`` values gets."""
    return max(min(_ceil(size, threads), GATHER_BLOCKS), 1)


def channel_parts(n: int, c: int, p: int) -> tuple[bool, int, int]:
    """Return how the N*P values of each channel are summed: (by images, parts, values a part).

    By images a block has one channel; else, where P is small, 32 channels, so that neighbours are read together.
    """
    by_images, values = p >= LARGE_PLANE, n * p
    across = c if by_images else _ceil(c, 32)
    parts = max(min(1024 // across, _ceil(values, 2048 if by_images else 64)), 1)
    chunk = _ceil(max(values, 1), parts)
    return by_images, _ceil(max(values, 1), chunk), chunk
