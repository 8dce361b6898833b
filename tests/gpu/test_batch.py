"""batch.cu: rows of any dtype, and augmented images."""

import numpy as np
import pytest
from conftest import assert_close

from gconv.backends.naive import NaiveBackend


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("shape", [(7,), (5, 3), (6, 3, 4, 5), (4, 0)], ids=str)
def test_rows(gpu, rng, kind, shape):
    data = (rng.standard_normal(shape) * 50).astype(kind)
    chosen = rng.integers(len(data), size=9)
    np.testing.assert_array_equal(gpu.to_numpy(gpu.gather_rows(gpu.asarray(data), chosen)), data[chosen])


def test_rows_of_a_slice(gpu, rng):
    data = rng.integers(255, size=(6, 9)).astype(np.uint8)
    ours = gpu.asarray(data)
    np.testing.assert_array_equal(gpu.to_numpy(gpu.gather_rows(ours[1:, ::2], [4, 0])), data[1:, ::2][[4, 0]])
    np.testing.assert_array_equal(gpu.to_numpy(gpu.gather_rows(ours[1:], [4, 0])), data[1:][[4, 0]])


def test_rows_of_a_table_s_step(gpu, rng):
    data = rng.standard_normal((6, 3))
    table, step = np.array([[0, 1], [5, 2], [3, 3]]), gpu.asarray(np.array(1))
    rows = gpu.gather_step_rows(gpu.asarray(data), gpu.asarray(table), step)
    np.testing.assert_array_equal(gpu.to_numpy(rows), data[[5, 2]])


@pytest.mark.parametrize("word", [1, 2, 4, 8])
def test_indices_outside_read_nothing(gpu, dtype, word):
    from gconv.backends.cuda_module import launch

    data, out = gpu.xp.ones((3, 2), f"u{word}"), gpu.xp.ones((4, 2), f"u{word}")
    indices = gpu.asarray(np.array([2, 3, -1, 2**40]))
    launch("batch", f"gather_rows_{word}", dtype, (1,), (32,), data, indices, None, out, 4, 2, 3)
    assert gpu.to_numpy(out).tolist() == [[1, 1], [0, 0], [0, 0], [0, 0]]


def test_augmented_images(gpu, put, index_width, rng, dtype):
    data = rng.integers(256, size=(5, 3, 6, 7)).astype(np.uint8)
    n = 40
    draws = [rng.integers(5, size=n), *(rng.integers(-8, 9, size=n) for _ in range(2)), rng.integers(2, size=n)]
    mean, scale = rng.standard_normal(3) * 100, rng.standard_normal(3)
    ours = gpu.augment(gpu.asarray(data), *draws, *put(mean, scale))
    expected = np.empty((n, 3, 6, 7))
    padded = np.pad(data, ((0, 0), (0, 0), (8, 8), (8, 8))).astype(np.float64)
    for i, (index, top, left, flip) in enumerate(zip(*draws, strict=True)):
        cut = padded[index, :, 8 + top : 14 + top, 8 + left : 15 + left]
        expected[i] = ((cut[:, :, ::-1] if flip else cut) - mean[:, None, None]) * scale[:, None, None]
    assert_close(ours, expected, 4)
    assert_close(NaiveBackend().augment(data, *draws, mean, scale), expected, 4)
