"""What is timed of gconv and of PyTorch alike."""

from __future__ import annotations

__all__ = ["BATCHES", "CONVOLUTIONS", "POOLED", "SEED"]

# x, w, stride, pad
Convolution = tuple[tuple[int, int, int, int], tuple[int, int, int, int], int, int]

SEED: Convolution = ((100, 3, 31, 31), (25, 3, 3, 3), 2, 1)  # the course's comparison
CONVOLUTIONS: dict[str, Convolution] = {
    "first layer": ((50, 3, 32, 32), (32, 3, 7, 7), 1, 3),
    "deep": ((50, 64, 32, 32), (64, 64, 3, 3), 1, 1),
    "deep, stride 2": ((50, 64, 32, 32), (128, 64, 3, 3), 2, 1),
    "deep, 1x1": ((50, 128, 16, 16), (256, 128, 1, 1), 1, 0),
}
POOLED = (100, 3, 32, 32)
BATCHES = (50, 200)
