"""NumPy's own kernels, which stand in where nothing could be compiled: bands of rows, adjointness, pooling."""

import numpy as np
import pytest
from oracles import loops

from gconv._checks import output_size
from gconv.backends import numpy_kernels as kernels
from gconv.backends.base import argmax_dtype

GEOMETRIES = [
    ((2, 3, 7, 6), (3, 3), (1, 1), (1, 1)),
    ((1, 2, 9, 5), (3, 5), (2, 1), (0, 2)),
    ((3, 1, 4, 4), (5, 3), (1, 3), (3, 1)),
    ((2, 2, 5, 8), (1, 1), (3, 2), (0, 0)),
    ((1, 1, 1, 1), (3, 3), (1, 1), (4, 4)),
    ((1, 3, 6, 2), (2, 5), (5, 5), (2, 2)),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_im2col_in_bands(rng, dtype, geometry):
    shape, field, stride, pad = geometry
    x = rng.standard_normal(shape).astype(dtype)
    expected = loops.im2col(x, field, stride, pad)
    out_h, out_w = (output_size(shape[2 + i], field[i], stride[i], pad[i]) for i in (0, 1))
    by_row = expected.reshape(len(expected), shape[0], out_h, out_w)
    for top in range(out_h):
        for bottom in {top + 1, out_h}:
            cols = np.full((len(expected), shape[0] * (bottom - top) * out_w), np.nan, dtype)
            kernels.im2col_into(x, cols, field, stride, pad, top, bottom)
            np.testing.assert_array_equal(cols, by_row[:, :, top:bottom].reshape(cols.shape))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_col2im_is_the_adjoint_of_im2col(rng, geometry):
    shape, field, stride, pad = geometry
    x = rng.standard_normal(shape)
    y = rng.standard_normal(loops.im2col(x, field, stride, pad).shape)
    back = np.zeros(shape)
    out_h = output_size(shape[2], field[0], stride[0], pad[0])
    kernels.col2im_add(y, back, field, stride, pad, 0, out_h)
    np.testing.assert_allclose(
        np.vdot(loops.im2col(x, field, stride, pad), y), np.vdot(x, back), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(back, loops.col2im(y, shape, field, stride, pad), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("stride", [(1, 1), (2, 3), (4, 1)])
@pytest.mark.parametrize("window", [(2, 2), (3, 1), (1, 4), (17, 17)])
def test_pooling(rng, dtype, window, stride):
    x = rng.integers(5, size=(2, 3, 19, 18)).astype(dtype)
    x[0, 0, 3, 3] = np.nan
    expected, expected_argmax = loops.max_pool_forward(x, window, stride)
    out, argmax = np.empty_like(expected), np.empty(expected.shape, argmax_dtype(window))
    kernels.max_pool_forward_into(x, out, argmax, window, stride)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(argmax, expected_argmax)
    dout, dx = rng.standard_normal(out.shape).astype(dtype), np.zeros_like(x)
    kernels.max_pool_backward_add(dout, argmax, dx, window, stride)
    wide = loops.max_pool_backward(dout.astype(np.float64), argmax, x.shape, window, stride)
    np.testing.assert_allclose(dx, wide, rtol=1e-5, atol=1e-5)
