"""max_pool.cu: overlap, rest, windows of more than 256 pixels, NaN, ties, ReLU before the pooling."""

import numpy as np
import pytest
from conftest import assert_close
from oracles import conv, loops, pool


@pytest.mark.parametrize("stride", [(1, 1), (2, 3), (4, 1)], ids=str)
@pytest.mark.parametrize("window", [(2, 2), (3, 1), (1, 4), (17, 17)], ids=str)
def test_both_ways(gpu, put, index_width, rng, dtype, window, stride):
    x = rng.integers(5, size=(1, 3, 19, 18)).astype(dtype)
    x[0, 0, 3, 3] = np.nan
    geometry = pool(x, window, stride)
    expected, places = loops.max_pool_forward(x, geometry)
    out, argmax = gpu.max_pool_forward(*put(x), geometry)
    np.testing.assert_array_equal(gpu.to_numpy(out), expected)
    np.testing.assert_array_equal(gpu.to_numpy(argmax), places)
    dout = rng.standard_normal(expected.shape)
    dx = gpu.max_pool_backward(*put(dout), argmax, geometry)
    assert_close(dx, loops.max_pool_backward(dout, places, geometry), 30)


@pytest.mark.parametrize("window", [(3, 2), (18, 16)], ids=str)
def test_behind_a_relu(gpu, put, rng, dtype, window):
    x, w, b = rng.standard_normal((2, 1, 20, 18)).astype(dtype), np.ones((1, 1, 1, 1)), np.zeros(1)
    arrays, geometries = put(x, w, b), (conv(x, w), pool(x, window, (1, 2)))
    out, argmax = gpu.conv_relu_pool_forward(*arrays, *geometries)
    activation = np.maximum(x, 0)
    expected, places = loops.max_pool_forward(activation, geometries[1])
    np.testing.assert_array_equal(gpu.to_numpy(out), expected)
    np.testing.assert_array_equal(gpu.to_numpy(argmax), places)
    dout = rng.standard_normal(expected.shape)
    dx, _, _ = gpu.conv_relu_pool_backward(*put(dout), out, argmax, *arrays[:2], *geometries)
    expected_dx = loops.max_pool_backward(dout * (expected > 0), places, geometries[1])
    assert_close(dx, expected_dx, 100)
