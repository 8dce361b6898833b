"""Every way to convolve and to pool gives what the loops give, on any shape, layout and dtype."""

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import loops, naive_conv, naive_pool, random_case

import gconv
from gconv import fast_layers
from gconv.fast_layers import (
    avg_pool_backward_fast,
    avg_pool_forward_fast,
    conv_backward_fast,
    conv_forward_fast,
    max_pool_backward_fast,
    max_pool_forward_fast,
)
from gconv.geometry import pool_param_geometry
from gconv.layers import avg_pool_backward_naive, avg_pool_forward_naive, conv_backward_naive, conv_forward_naive

CONV = ("fast", "im2col", "strides")
POOL = ("fast", "im2col", "reshape")


def pair_of(operation, method):
    return (getattr(fast_layers, f"{operation}_{direction}_{method}") for direction in ("forward", "backward"))


@pytest.mark.parametrize("method", CONV)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), doubles=st.booleans())
def test_convolution(method, seed, doubles):
    backend, rng = gconv.get_backend(), np.random.default_rng(seed)
    case = random_case(rng, np.float64 if doubles else np.float32)
    forward, backward = pair_of("conv", method)
    before = [a.copy() for a in (case.x, case.w, case.b)]
    out, cache = forward(*(backend.asarray(a) for a in (case.x, case.w, case.b)), case.conv_param)
    terms = 4 * 4 * 5 * 5
    assert_close(out, naive_conv(case), terms)
    dout = rng.standard_normal(out.shape).astype(case.x.dtype)
    for ours, theirs in zip(backward(backend.asarray(dout), cache), naive_conv(case, dout), strict=True):
        assert ours.dtype == case.x.dtype
        assert_close(ours, theirs, terms)
    for array, old in zip((case.x, case.w, case.b), before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("method", POOL)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 4))
def test_pooling_with_ties(method, seed, levels):
    """Few distinct values: nearly every window ties, and the first maximum must take the gradient."""
    backend, rng = gconv.get_backend(), np.random.default_rng(seed)
    case = random_case(rng, np.float64)
    h, w = (int(v) for v in rng.integers(3, 10, 2))
    x = rng.integers(levels, size=(2, 3, h, w)).astype(np.float64)
    forward, backward = pair_of("max_pool", method)
    out, cache = forward(backend.asarray(x), case.pool_param)
    np.testing.assert_array_equal(backend.to_numpy(out), naive_pool(x, case.pool_param))
    dout = rng.standard_normal(out.shape)
    assert_close(backward(backend.asarray(dout), cache), naive_pool(x, case.pool_param, dout), 9)


@pytest.mark.parametrize("method", CONV)
def test_convolution_without_a_bias(backend, rng, dtype, method):
    """Sums of the same products, with nothing added, whatever becomes of the bias inside."""
    forward, backward = pair_of("conv", method)
    for x_shape, w_shape, stride in (((2, 3, 7, 6), (5, 3, 3, 3), 1), ((3, 2, 5, 9), (4, 2, 2, 5), 2)):
        x, w = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape))
        conv_param = {"stride": stride, "pad": 1}
        out, cache = forward(backend.asarray(x), backend.asarray(w), None, conv_param)
        expected, loops_cache = conv_forward_naive(*(a.astype(np.float64) for a in (x, w)), None, conv_param)
        assert cache[2] is None
        assert_close(out, expected, w[0].size)
        dout = rng.standard_normal(out.shape).astype(dtype)
        dx, dw, db = backward(backend.asarray(dout), cache)
        expected_dx, expected_dw, expected_db = conv_backward_naive(dout.astype(np.float64), loops_cache)
        assert db is expected_db is None
        assert_close(dx, expected_dx, w[:, 0].size)
        assert_close(dw, expected_dw, dout[:, 0].size)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), doubles=st.booleans())
def test_average_pooling(seed, doubles):
    backend, rng = gconv.get_backend(), np.random.default_rng(seed)
    case = random_case(rng, np.float64 if doubles else np.float32)
    x = rng.standard_normal((*case.x.shape[:2], *rng.integers(3, 10, 2))).astype(case.x.dtype)
    out, cache = avg_pool_forward_fast(backend.asarray(x), case.pool_param)
    assert out.dtype == x.dtype
    geometry = pool_param_geometry("test", x.shape, case.pool_param)
    assert_close(out, loops.avg_pool_forward(x.astype(np.float64), geometry), 9)
    dout = rng.standard_normal(out.shape).astype(x.dtype)
    for _ in range(2):  # a cache can be used twice
        dx = avg_pool_backward_fast(backend.asarray(dout), cache)
        assert_close(dx, loops.avg_pool_backward(dout.astype(np.float64), geometry), 9)


def test_averages_have_their_known_value_and_leave_what_no_window_holds_alone(backend):
    x = backend.asarray(np.arange(30.0).reshape(1, 1, 5, 6))
    pool_param = {"pool_height": 2, "pool_width": 3, "stride": (2, 3)}
    out, cache = avg_pool_forward_fast(x, pool_param)
    assert backend.to_numpy(out)[0, 0].tolist() == [[4, 7], [16, 19]]
    dx = backend.to_numpy(avg_pool_backward_fast(out * 6, cache))[0, 0]
    assert dx.tolist() == [[4, 4, 4, 7, 7, 7]] * 2 + [[16, 16, 16, 19, 19, 19]] * 2 + [[0] * 6]
    naive, naive_cache = avg_pool_forward_naive(backend.to_numpy(x), pool_param)
    assert naive.tolist() == backend.to_numpy(out).tolist()
    assert avg_pool_backward_naive(naive * 6, naive_cache)[0, 0].tolist() == dx.tolist()


@pytest.mark.peers
def test_average_pooling_against_pytorch(backend, rng, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'gconv[peers]'")
    x = rng.standard_normal((2, 3, 11, 8))
    leaf = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.avg_pool2d(leaf, (4, 3), stride=(3, 2))
    pool_param = {"pool_height": 4, "pool_width": 3, "stride": (3, 2)}
    out, cache = avg_pool_forward_fast(backend.asarray(x.astype(dtype)), pool_param)
    assert_close(out, theirs.detach().numpy(), 12)
    dout = rng.standard_normal(out.shape)
    theirs.backward(torch.tensor(dout))
    assert_close(avg_pool_backward_fast(backend.asarray(dout.astype(dtype)), cache), leaf.grad.numpy(), 12)


@pytest.mark.parametrize("method", POOL)
def test_tiling_windows(backend, rng, method):
    x = rng.standard_normal((2, 3, 6, 8))
    pool_param = {"pool_height": 3, "pool_width": 4, "stride": (3, 4)}
    forward, backward = pair_of("max_pool", method)
    out, cache = forward(backend.asarray(x), pool_param)
    np.testing.assert_array_equal(backend.to_numpy(out), naive_pool(x, pool_param))
    dout = rng.standard_normal(out.shape)
    np.testing.assert_array_equal(
        backend.to_numpy(backward(backend.asarray(dout), cache)), naive_pool(x, pool_param, dout)
    )


@pytest.mark.parametrize("method", POOL)
def test_nan_is_the_maximum(backend, method):
    x = np.array([[[[1.0, np.nan], [np.nan, 9.0]]]])
    forward, backward = pair_of("max_pool", method)
    out, cache = forward(backend.asarray(x), {"pool_height": 2, "pool_width": 2, "stride": 1})
    assert np.isnan(backend.to_numpy(out)).all()
    dx = backend.to_numpy(backward(backend.asarray(np.ones((1, 1, 1, 1))), cache))
    assert dx[0, 0].tolist() == [[0, 1], [0, 0]]


def test_windows_of_more_than_256_pixels(backend, rng):
    x = rng.standard_normal((1, 1, 20, 20))
    pool_param = {"pool_height": 17, "pool_width": 17, "stride": 1}
    out, cache = max_pool_forward_fast(backend.asarray(x), pool_param)
    assert cache[0].dtype == np.int32
    np.testing.assert_array_equal(backend.to_numpy(out), naive_pool(x, pool_param))
    dout = rng.standard_normal(out.shape)
    assert_close(max_pool_backward_fast(backend.asarray(dout), cache), naive_pool(x, pool_param, dout), 16)


def test_argmax_is_kept_as_bytes_and_columns_not_at_all(backend, rng):
    x = backend.asarray(rng.standard_normal((2, 3, 8, 8)))
    _, cache = max_pool_forward_fast(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    assert cache[0].dtype == np.uint8
    w, b = backend.asarray(rng.standard_normal((4, 3, 3, 3))), backend.asarray(np.zeros(4))
    _, cache = conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    assert cache[0] is x
    assert cache[1] is w
    assert len(cache) == 4


def test_the_gradient_of_the_input_can_be_skipped(backend, rng):
    x, w, b = (backend.asarray(rng.standard_normal(s)) for s in ((2, 3, 6, 6), (4, 3, 3, 3), (4,)))
    out, cache = conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    _, dw, db = conv_backward_fast(out, cache)
    skipped = conv_backward_fast(out, cache, input_grad=False)
    assert skipped[0] is None
    np.testing.assert_array_equal(backend.to_numpy(skipped[1]), backend.to_numpy(dw))
    np.testing.assert_array_equal(backend.to_numpy(skipped[2]), backend.to_numpy(db))


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "pad"),
    [
        ((0, 3, 5, 5), (2, 3, 3, 3), 1),
        ((2, 0, 5, 5), (2, 0, 3, 3), 1),
        ((2, 3, 5, 5), (0, 3, 3, 3), 1),
        ((2, 3, 0, 4), (2, 3, 3, 3), 2),
    ],
    ids=["no images", "no channels", "no filters", "no pixels but padding"],
)
def test_empty_axes(backend, rng, x_shape, w_shape, pad):
    x, w, b = (rng.standard_normal(s) for s in (x_shape, w_shape, w_shape[:1]))
    for method in CONV:
        forward, backward = pair_of("conv", method)
        out, cache = forward(*(backend.asarray(a) for a in (x, w, b)), {"stride": 1, "pad": pad})
        values = backend.to_numpy(out)
        np.testing.assert_array_equal(values, np.broadcast_to(b[:, None, None], values.shape))
        dx, dw, db = backward(backend.asarray(np.ones_like(values)), cache)
        assert (dx.shape, dw.shape) == (x_shape, w_shape)
        np.testing.assert_allclose(backend.to_numpy(db), values.shape[0] * values.shape[2] * values.shape[3])


@pytest.mark.parametrize("stride", [1, 2])
def test_images_larger_than_the_workspace(backend, rng, stride):
    """One image passes the workspace's bound, so that it is convolved in bands of rows."""
    x, w, b = rng.standard_normal((1, 6, 199, 180)), rng.standard_normal((2, 6, 5, 5)), rng.standard_normal(2)
    conv_param = {"stride": stride, "pad": 2}
    arrays = [backend.asarray(a) for a in (x, w, b)]
    out, cache = conv_forward_fast(*arrays, conv_param)
    expected, expected_cache = fast_layers.conv_forward_strides(*arrays, conv_param)
    assert_close(out, backend.to_numpy(expected), 150)
    dout = backend.asarray(rng.standard_normal(out.shape))
    ours, theirs = conv_backward_fast(dout, cache), fast_layers.conv_backward_strides(dout, expected_cache)
    for a, e in zip(ours, theirs, strict=True):
        assert_close(a, backend.to_numpy(e), 199 * 180)
