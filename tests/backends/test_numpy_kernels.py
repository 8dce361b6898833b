"""NumPy's own kernels, which stand in where nothing could be compiled: bands of rows, adjointness, pooling."""

import numpy as np
import pytest
from oracles import loops, pool, windows

from gconv.backends import numpy_kernels as kernels
from gconv.backends.base import argmax_dtype

GEOMETRIES = [
    windows((2, 3, 7, 6), (3, 3), (1, 1), (1, 1)),
    windows((1, 2, 9, 5), (3, 5), (2, 1), (0, 2)),
    windows((3, 1, 4, 4), (5, 3), (1, 3), (3, 1)),
    windows((2, 2, 5, 8), (1, 1), (3, 2), (0, 0)),
    windows((1, 1, 1, 1), (3, 3), (1, 1), (4, 4)),
    windows((1, 3, 6, 2), (2, 5), (5, 5), (2, 2)),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_im2col_in_bands(rng, dtype, geometry):
    x = rng.standard_normal(geometry.x).astype(dtype)
    expected, (n, _, out_h, out_w) = loops.im2col(x, geometry), geometry.out
    by_row = expected.reshape(len(expected), n, out_h, out_w)
    for top in range(out_h):
        for bottom in {top + 1, out_h}:
            cols = np.full((len(expected), n * (bottom - top) * out_w), np.nan, dtype)
            kernels.im2col_into(x, cols, geometry, top, bottom)
            np.testing.assert_array_equal(cols, by_row[:, :, top:bottom].reshape(cols.shape))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_col2im_is_the_adjoint_of_im2col(rng, geometry):
    x = rng.standard_normal(geometry.x)
    y = rng.standard_normal(loops.im2col(x, geometry).shape)
    back = np.zeros(geometry.x)
    kernels.col2im_add(y, back, geometry, 0, geometry.out[2])
    np.testing.assert_allclose(np.vdot(loops.im2col(x, geometry), y), np.vdot(x, back), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(back, loops.col2im(y, geometry), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("stride", [(1, 1), (2, 3), (4, 1)])
@pytest.mark.parametrize("window", [(2, 2), (3, 1), (1, 4), (17, 17)])
def test_pooling(rng, dtype, window, stride):
    x = rng.integers(5, size=(2, 3, 19, 18)).astype(dtype)
    x[0, 0, 3, 3] = np.nan
    geometry = pool(x, window, stride)
    expected, expected_argmax = loops.max_pool_forward(x, geometry)
    out, argmax = np.empty_like(expected), np.empty(expected.shape, argmax_dtype(window))
    kernels.max_pool_forward_into(x, out, argmax, geometry)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(argmax, expected_argmax)
    dout, dx = rng.standard_normal(out.shape).astype(dtype), np.zeros_like(x)
    kernels.max_pool_backward_add(dout, argmax, dx, geometry)
    doubles = loops.max_pool_backward(dout.astype(np.float64), argmax, geometry)
    np.testing.assert_allclose(dx, doubles, rtol=1e-5, atol=1e-5)
