"""The data set behind ``--data``."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gconv._typing import Array
from gconv.data_utils import CIFAR10_CLASSES, get_CIFAR10_data, get_digits_data
from gconv.datasets.batch_file import read_batch
from gconv.datasets.cifar10_files import BATCHES, TEST_BATCH, find_cifar10

__all__ = ["DataSet", "load_data"]


class DataSet(NamedTuple):
    """Arrays as the Solver takes them, the names of the classes, and the test images as they look."""

    arrays: dict[str, Array]
    class_names: tuple[str, ...]
    pictures: Array


def load_data(source: str) -> DataSet:
    """Load ``digits``, ``cifar10``, or CIFAR-10 from a folder.

    Validation takes 1,000 of the training images, or a tenth where there are fewer than 10,000; testing
    takes every test image.
    """
    if source == "digits":
        pictures = get_digits_data(subtract_mean=False)["X_test"]
        return DataSet(get_digits_data(), tuple(str(digit) for digit in range(10)), pictures)
    if source != "cifar10" and not (source and Path(source).is_dir()):
        raise ValueError(f"--data must be digits, cifar10 or a folder that holds CIFAR-10; got {source}")
    folder = find_cifar10(None if source == "cifar10" else source)
    total = sum(len(read_batch(folder / name)[1]) for name in BATCHES)
    validation = min(1000, total // 10)
    pictures = read_batch(folder / TEST_BATCH)[0]
    arrays = get_CIFAR10_data(total - validation, validation, len(pictures), cifar10_dir=folder)
    return DataSet(arrays, CIFAR10_CLASSES, pictures)
