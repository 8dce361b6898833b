"""affine.cu: every tile and split, in each direction more than one tile."""

import numpy as np
import pytest
from conftest import assert_close

SIZES = [(5, 40, 10), (70, 33, 3), (3, 35, 131), (1, 1, 1), (33, 5, 65)]


@pytest.mark.parametrize("splits", [1, 2])
@pytest.mark.parametrize("tile", ["strip", "square", "large"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_forward_and_gradients(gpu, put, force, rng, size, tile, splits):
    n, d, m = size
    x, w, b, dout = (rng.standard_normal(shape) for shape in ((n, d), (d, m), (m,), (n, m)))
    force(tile, splits)
    out = gpu.affine_forward(*put(x, w, b))
    assert_close(out, x @ w + b, d)
    assert_close(gpu.affine_forward(*put(x, w, b), activation="relu"), np.maximum(x @ w + b, 0), d, "relu")
    dx, dw, db = gpu.affine_backward(*put(dout, x, w))
    assert_close(dx, dout @ w.T, m, "dx")
    assert_close(dw, x.T @ dout, n, "dw")
    assert_close(db, dout.sum(axis=0), n, "db")


def test_wide_indices(gpu, put, index_width, rng):
    x, w, b = rng.standard_normal((7, 20)), rng.standard_normal((20, 9)), rng.standard_normal(9)
    out = gpu.affine_forward(*put(x, w, b))
    assert_close(out, x @ w + b, 20)
    dx, dw, _ = gpu.affine_backward(*put(x @ w, x, w))
    assert_close(dx, (x @ w) @ w.T, 200)
    assert_close(dw, x.T @ (x @ w), 200)


def test_a_long_sum_is_split_by_itself(gpu, put, ran, rng):
    x, w = rng.standard_normal((4, 2000)), rng.standard_normal((2000, 3))
    assert_close(gpu.affine_forward(*put(x, w, np.zeros(3))), x @ w, 2000)
    assert {("affine", "affine_forward_add_f32"), ("affine", "affine_forward_add_f64")} & ran


def test_nan_passes_the_relu(gpu, put):
    out = gpu.affine_forward(*put([[np.nan], [-1.0]], [[1.0]], [0.0]), activation="relu")
    out = gpu.to_numpy(out)
    assert np.isnan(out[0, 0])
    assert out[1, 0] == 0


def test_other_layouts(gpu, put, rng):
    x, w = put(rng.standard_normal((6, 8)), rng.standard_normal((5, 6)))
    out = gpu.affine_forward(x.T, w.T, w[:, 0])
    assert_close(out, gpu.to_numpy(x).T.astype(float) @ gpu.to_numpy(w).T + gpu.to_numpy(w)[:, 0], 6)
