"""Windows that are far apart or far outside the image: right, and without room for the padding between them."""

import tracemalloc

import numpy as np
import pytest

from gconv import fast_layers, layers
from gconv.backends.numpy_only import NumpyBackend
from gconv.geometry import conv_geometry
from gconv.layer_utils import conv_relu_pool_backward, conv_relu_pool_forward

WAYS = {
    "fast": (fast_layers.conv_forward_fast, fast_layers.conv_backward_fast),
    "im2col": (fast_layers.conv_forward_im2col, fast_layers.conv_backward_im2col),
    "strides": (fast_layers.conv_forward_strides, fast_layers.conv_backward_strides),
    "naive": (layers.conv_forward_naive, layers.conv_backward_naive),
}
SIZES = [
    (20000, 20000), (65536, 65536), ((100, 7), (99, 30)), ((70, 1), (80, 0)), (65, 0), ((300, 2), (100, 1)), (90, 91), (1000, 998),
]  # fmt: skip


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def by_coordinates(x, w, b, dout, stride, pad):
    """The definition, pixel by pixel: what lies outside the image is not looked at."""
    (n, _, height, width), (f, _, field_y, field_x) = x.shape, w.shape
    (sy, sx), (py, px) = pair(stride), pair(pad)
    rows, columns = 1 + (height + 2 * py - field_y) // sy, 1 + (width + 2 * px - field_x) // sx
    out = np.zeros((n, f, rows, columns)) + b[:, None, None]
    dout = dout(out.shape)
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for y, column, i, j in np.ndindex(rows, columns, field_y, field_x):
        row, place = y * sy + i - py, column * sx + j - px
        if 0 <= row < height and 0 <= place < width:
            out[:, :, y, column] += x[:, :, row, place] @ w[:, :, i, j].T
            dx[:, :, row, place] += dout[:, :, y, column] @ w[:, :, i, j]
            dw[:, :, i, j] += dout[:, :, y, column].T @ x[:, :, row, place]
    return out, dout, (dx, dw, dout.sum(axis=(0, 2, 3)))


@pytest.mark.filterwarnings("ignore:gconv runs on NumPy alone:RuntimeWarning")
@pytest.mark.parametrize(("stride", "pad"), SIZES)
def test_far_windows(backend, rng, stride, pad):
    x, w, b = rng.standard_normal((2, 2, 4, 5)), rng.standard_normal((3, 2, 3, 2)), rng.standard_normal(3)
    out, dout, gradients = by_coordinates(x, w, b, rng.standard_normal, stride, pad)
    param = {"stride": stride, "pad": pad}
    if backend.name == "cpu":
        alone, geometry = NumpyBackend(), conv_geometry("test", x.shape, w.shape, stride, pad)
        np.testing.assert_allclose(alone.conv_forward(x, w, b, geometry), out, rtol=1e-12, atol=1e-12)
        for got, expected in zip(alone.conv_backward(dout, x, w, geometry), gradients, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    for way, (forward, backward) in WAYS.items():
        if way == "naive" and backend.name == "gpu":
            continue
        ours, cache = forward(*(backend.asarray(a) for a in (x, w, b)), param)
        np.testing.assert_allclose(backend.to_numpy(ours), out, rtol=1e-12, atol=1e-12, err_msg=way)
        for got, expected in zip(backward(backend.asarray(dout), cache), gradients, strict=True):
            np.testing.assert_allclose(backend.to_numpy(got), expected, rtol=1e-12, atol=1e-12, err_msg=way)
    pool = {"pool_height": 1, "pool_width": 1, "stride": 1}
    ours, cache = conv_relu_pool_forward(*(backend.asarray(a) for a in (x, w, b)), param, pool)
    np.testing.assert_allclose(backend.to_numpy(ours), np.maximum(out, 0), rtol=1e-12, atol=1e-12)
    dx, dw, db = conv_relu_pool_backward(backend.asarray(dout), cache)
    expected = by_coordinates(x, w, b, lambda _: dout * (out > 0), stride, pad)[2]
    for got, right in zip((dx, dw, db), expected, strict=True):
        np.testing.assert_allclose(backend.to_numpy(got), right, rtol=1e-12, atol=1e-12)


def test_a_weight_that_is_not_finite_meets_the_zeros_too(backend):
    x, w = np.ones((1, 1, 4, 4)), np.full((1, 1, 3, 3), np.inf)
    with np.errstate(invalid="ignore"):
        out, _ = fast_layers.conv_forward_fast(
            *map(backend.asarray, (x, w, np.zeros(1))), {"stride": 2000, "pad": 2000}
        )
    assert np.isnan(backend.to_numpy(out)).tolist() == [[[[True] * 3, [True, False, True], [True] * 3]]]


def test_a_gradient_that_is_not_finite_meets_the_zeros_too(backend):
    x = backend.asarray(np.ones((1, 1, 1, 1)))
    dout = np.ones((1, 1, 3, 3))
    dout[0, 0, 0, 0] = np.inf
    with np.errstate(invalid="ignore"):
        _, dw, db = fast_layers.conv_backward_fast(
            backend.asarray(dout), (x, x, backend.asarray(np.zeros(1)), {"stride": 100, "pad": 100})
        )
    assert np.isnan(backend.to_numpy(dw)).all()
    assert np.isinf(backend.to_numpy(db)).all()


def test_they_take_no_memory_for_what_lies_between(backend):
    if backend.name == "gpu":
        pytest.skip("tracemalloc does not see a device")
    x, w, b = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), np.zeros(1)
    tracemalloc.start()
    for forward, backward in WAYS.values():
        out, cache = forward(x, w, b, {"stride": 20000, "pad": 20000})
        backward(out, cache)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 100_000
