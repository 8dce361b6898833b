"""Sums of more values than float32 can count, and means of constants."""

import warnings

import numpy as np
import pytest

import gconv
from gconv.backends.numpy_only import NumpyBackend
from gconv.backends.sums import sum_channels, sum_last, sum_rows
from gconv.fast_layers import conv_backward_im2col, conv_backward_strides
from gconv.geometry import conv_geometry
from gconv.layers import (
    batchnorm_backward,
    batchnorm_backward_alt,
    batchnorm_forward,
    layernorm_forward,
    spatial_batchnorm_forward,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
)

MANY = 20_000_000


@pytest.fixture(params=["compiled", "numpy"])
def on_host(request):
    if gconv.get_backend().name != "cpu":
        pytest.skip("takes too long in loops and on an emulated device")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return NumpyBackend() if request.param == "numpy" else gconv.get_backend()


def test_gradients_of_more_samples_than_float32_counts(on_host):
    ones = np.ones((MANY, 1), np.float32)
    _, dw, db = on_host.affine_backward(ones, ones, np.ones((1, 1), np.float32), False)
    assert float(db[0]) == MANY
    np.testing.assert_allclose(dw, MANY, rtol=1e-5)
    del dw, db
    x = ones.reshape(MANY, 1, 1)
    x[::2] = 0.5
    x[1::2] = 1.5
    one = np.ones(1, np.float32)
    _, mean, var = on_host.batchnorm_train(x, one, one, 1e-5)
    np.testing.assert_allclose([mean[0], var[0]], [1, 0.25], rtol=1e-6)
    ones = np.ones_like(x)
    for _, _, dbeta in (
        on_host.batchnorm_backward(ones, x, one, mean, var, 1e-5),
        on_host.groupnorm_backward(ones, x, one, x[:, :, 0], x[:, :, 0], 1, 1e-5),
    ):
        assert float(dbeta[0]) == MANY


def test_layers_and_layouts(on_host):
    """The public functions, and images with their channels last, as a view."""
    if type(on_host) is not type(gconv.get_backend()):
        pytest.skip("the layers take the backend that is there")
    x = np.ones((MANY, 1), np.float32)
    x[::2] = 0.5
    x[1::2] = 1.5
    one, ones = np.ones(1, np.float32), np.ones_like(x)
    _, cache = batchnorm_forward(x, one, one, {"mode": "train"})
    assert float(batchnorm_backward(ones, cache)[2][0]) == MANY
    _, cache = batchnorm_forward(x, one, one, {"mode": "test", "running_mean": 0 * one, "running_var": one})
    for backward in (batchnorm_backward, batchnorm_backward_alt):
        _, dgamma, dbeta = backward(ones, cache)
        np.testing.assert_allclose(dgamma, MANY, rtol=1e-4)
        assert float(dbeta[0]) == MANY
    del x
    images, w = ones.reshape(MANY, 1, 1, 1), np.ones((1, 1, 1, 1), np.float32)
    for backward in (conv_backward_im2col, conv_backward_strides):
        assert float(backward(images, (images, w, one, {"stride": 1, "pad": 0}))[2][0]) == MANY
    last = ones.reshape(1, 4000, 2500, 2).transpose(0, 3, 1, 2)  # (1, 2, 4000, 2500)
    both = np.ones((1, 2, 1, 1), np.float32)
    _, cache = spatial_groupnorm_forward(last, both, both, 2, {})
    np.testing.assert_array_equal(spatial_groupnorm_backward(last, cache)[2].ravel(), MANY // 2)
    flat = ones.reshape(MANY // 2, 2).T[None]
    for a in (sum_last(np, flat), sum_channels(np, flat)[None]):
        np.testing.assert_array_equal(a, MANY // 2)


@pytest.mark.parametrize(("filters", "size"), [(1, 4096), (9, 2048)])
def test_gradients_of_filters_on_a_large_image(on_host, rng, filters, size):
    x, w = np.empty((1, 1, size, size), np.float32), np.ones((filters, 1, 1, 1), np.float32)
    x[...] = rng.uniform(0.5, 1.5, size)
    dout = np.ones((1, filters, size, size), np.float32)
    geometry = conv_geometry("test", x.shape, w.shape)
    _, dw, db = on_host.conv_backward(dout, x, w, geometry, False)
    np.testing.assert_allclose(dw.ravel(), x[0, 0, 0].sum(dtype=np.float64) * size, rtol=1e-5)
    np.testing.assert_array_equal(db, size * size)


def test_sum_rows(rng):
    for rows in (0, 1, 255, 256, 257, 1000, 70_000):
        x = rng.integers(-3, 4, (rows, 2, 3)).astype(np.float32)
        np.testing.assert_array_equal(sum_rows(np, x), x.sum(axis=0, dtype=np.float64))


@pytest.mark.parametrize("value", [1e7, 1e10, -0.1, 1e17])
def test_a_constant_is_0_when_it_is_normalised(backend, dtype, value):
    for shape in ((100, 3), (3, 3, 6, 7)):
        x = backend.asarray(np.full(shape, value, dtype))
        gamma, beta = backend.asarray(np.full(3, 2, dtype)), backend.asarray(np.zeros(3, dtype))
        if len(shape) == 2:
            found = [batchnorm_forward(x, gamma, beta, {"mode": "train"})[0], layernorm_forward(x, gamma, beta, {})[0]]
        else:
            turn = (1, 3, 1, 1)
            found = [
                spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})[0],
                spatial_groupnorm_forward(x, gamma.reshape(turn), beta.reshape(turn), 1, {})[0],
            ]
        for out in found:
            np.testing.assert_array_equal(backend.to_numpy(out), 0)
