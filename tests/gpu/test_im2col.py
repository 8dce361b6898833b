"""im2col.cu: columns and their sum back."""

import pytest
from conftest import assert_close
from oracles import loops, windows

SHAPES = [
    ((2, 3, 7, 6), (3, 3), (1, 1), (1, 1)),
    ((1, 2, 9, 5), (3, 5), (2, 1), (0, 2)),
    ((3, 1, 4, 4), (5, 3), (1, 3), (3, 1)),
    ((1, 1, 1, 1), (3, 3), (1, 1), (4, 4)),
    ((1, 3, 6, 2), (2, 5), (5, 5), (2, 2)),
]


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_both_ways(gpu, put, index_width, rng, dtype, case):
    shape, field, stride, pad = case
    x = rng.standard_normal(shape).astype(dtype)
    geometry = windows(shape, field, stride, pad)
    cols = loops.im2col(x, geometry)
    assert (gpu.to_numpy(gpu.im2col(*put(x), geometry)) == cols).all()
    y = rng.standard_normal(cols.shape)
    assert_close(gpu.col2im(*put(y), geometry), loops.col2im(y, geometry), 15)
