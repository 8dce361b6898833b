"""batch.cu: rows of any dtype, and augmented images."""

import numpy as np
import pytest

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


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", "float64"])
def test_augmented_images(gpu, index_width, rng, kind):
    images = (rng.standard_normal((20, 3, 6, 7)) * 50 + 100).astype(kind)
    table = np.concatenate(
        [rng.integers(-8, 9, (2, 20, 2)), rng.integers(0, 2, (2, 20, 1)), rng.integers(-5, 8, (2, 20, 2))], axis=2
    ).astype(np.int32)
    expected = NaiveBackend().augment(images, table[1], 3)
    x = gpu.asarray(images)
    np.testing.assert_array_equal(gpu.to_numpy(gpu.augment(x, table[1], 3)), expected)
    step = gpu.asarray(np.array(1))
    np.testing.assert_array_equal(gpu.to_numpy(gpu.augment_step(x, gpu.asarray(table), step, 3)), expected)
    flipped = gpu.to_numpy(gpu.augment(x[:, :, ::-1], table[1], 3))
    np.testing.assert_array_equal(flipped, NaiveBackend().augment(images[:, :, ::-1], table[1], 3))


@pytest.mark.parametrize("word", [1, 2, 4, 8])
def test_both_names_of_an_entry_point(gpu, dtype, word):
    """augment has no REAL; its float64 entries are there for the table of kernels alone."""
    from gconv.backends.cuda_module import launch

    x, out = gpu.asarray(np.arange(4, dtype=f"u{word}").reshape(1, 1, 2, 2)), gpu.xp.zeros((1, 1, 2, 2), f"u{word}")
    draws = gpu.asarray(np.array([[0, 1, 1, 0, 0]], np.int32))
    launch("batch", f"augment_{word}", dtype, (1,), (32,), x, draws, None, out, 1, 1, 2, 2, 0)
    assert gpu.to_numpy(out).tolist() == [[[[0, 1], [0, 3]]]]
