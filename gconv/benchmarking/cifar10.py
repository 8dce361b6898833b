"""CIFAR-10 as both sides of a comparison get it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv.data_utils import get_CIFAR10_data
from gconv.datasets.cifar10_files import find_cifar10

__all__ = ["images_and_labels"]


def images_and_labels() -> tuple[Any, Any]:
    """Return 49,000 normalised images (N, 3, 32, 32), float32, and their labels."""
    find_cifar10(download=False)
    data = get_CIFAR10_data()
    return np.ascontiguousarray(data["X_train"], np.float32), data["y_train"].astype(np.int64)
