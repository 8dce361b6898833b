"""batchnorm.cu: images and vectors, one part and several, far from zero."""

import numpy as np
import pytest
from conftest import assert_close
from oracles import loops

SHAPES = [(3, 5, 1), (40, 3, 1), (2, 3, 40), (5, 2, 31), (150, 35, 1), (7, 1, 300), (1, 1, 1), (30, 2, 90)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_train_test_and_gradients(gpu, put, rng, shape):
    x, c = rng.standard_normal(shape) + 3, shape[1]
    gamma, beta, dout = rng.standard_normal(c), rng.standard_normal(c), rng.standard_normal(shape)
    out, mean, var = gpu.batchnorm_train(*put(x, gamma, beta), 1e-5)
    expected, expected_mean, expected_var = loops.batchnorm_train(x, gamma, beta, 1e-5)
    terms = 20 * shape[0] * shape[2]
    assert_close(mean, expected_mean, terms, "mean")
    assert_close(var, expected_var, terms, "var")
    assert_close(out, expected, terms, "out")
    tested = gpu.batchnorm_test(*put(x, gamma, beta, expected_mean, expected_var), 1e-5)
    assert_close(tested, expected, terms, "test mode")
    grads = gpu.batchnorm_backward(*put(dout, x, gamma, expected_mean, expected_var), 1e-3)
    theirs = loops.batchnorm_backward(dout, x, gamma, expected_mean, expected_var, 1e-3)
    for name, a, b in zip(("dx", "dgamma", "dbeta"), grads, theirs, strict=True):
        assert_close(a, b, 10 * terms, name)


def test_variance_survives_a_large_mean(gpu, put, rng, dtype):
    x = rng.standard_normal((200, 2, 1)) + (1e4 if dtype == "float32" else 1e8)
    x = x.astype(dtype).astype("float64")
    _, _, var = gpu.batchnorm_train(*put(x, [1.0, 1.0], [0.0, 0.0]), 1e-5)
    assert abs(gpu.to_numpy(var) / x.var(axis=(0, 2)) - 1).max() < 1e-3


def test_more_planes_than_blocks(gpu, put, monkeypatch, rng):
    from gconv.backends import gpu_norm, gpu_plan

    monkeypatch.setattr(gpu_norm, "GATHER_BLOCKS", 2)
    monkeypatch.setattr(gpu_plan, "GATHER_BLOCKS", 2)
    for shape in ((4, 3, 40), (90, 3, 2)):
        x, dout = rng.standard_normal(shape), rng.standard_normal(shape)
        gamma, beta = np.array([1.0, 2, 3]), np.array([0.0, 0, 1])
        out, mean, var = gpu.batchnorm_train(*put(x, gamma, beta), 1e-5)
        expected, m, v = loops.batchnorm_train(x, gamma, beta, 1e-5)
        assert_close(out, expected, 1000)
        dx, _, _ = gpu.batchnorm_backward(*put(dout, x, gamma), mean, var, 1e-5)
        assert_close(dx, loops.batchnorm_backward(dout, x, gamma, m, v, 1e-5)[0], 3000)


def test_wide_indices(gpu, put, index_width, rng):
    x = rng.standard_normal((4, 3, 33))
    out, mean, var = gpu.batchnorm_train(*put(x, [1.0, 2, 3], [0.0, 0, 1]), 1e-5)
    assert_close(out, loops.batchnorm_train(x, np.array([1.0, 2, 3]), np.array([0.0, 0, 1]), 1e-5)[0], 1000)
    assert gpu.batchnorm_backward(*put(x, x, [1.0, 2, 3]), mean, var, 1e-5)[0].shape == x.shape
