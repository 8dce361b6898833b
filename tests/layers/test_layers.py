"""Affine, ReLU, dropout and the naive layers: known values, numeric gradients, dtypes."""

import math

import numpy as np
import pytest
from conftest import assert_close

from gconv.gradient_check import eval_numerical_gradient_array, rel_error
from gconv.layers import (
    affine_backward,
    affine_forward,
    conv_backward_naive,
    conv_forward_naive,
    dropout_backward,
    dropout_forward,
    fc_backward,
    fc_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    max_pool_backward_naive,
    max_pool_forward_naive,
    relu_backward,
    relu_forward,
)


def arrays(backend, rng, dtype, *shapes):
    return [backend.asarray(rng.standard_normal(shape).astype(dtype)) for shape in shapes]


def test_affine_is_a_matrix_product(backend, rng, dtype):
    x, w, b, dout = arrays(backend, rng, dtype, (4, 3, 2, 5), (30, 7), (7,), (4, 7))
    out, cache = affine_forward(x, w, b)
    xs, ws, bs, ds = (backend.to_numpy(a).astype(np.float64) for a in (x, w, b, dout))
    assert_close(out, xs.reshape(4, 30) @ ws + bs, 30)
    assert out.dtype == dtype
    dx, dw, db = affine_backward(dout, cache)
    assert_close(dx, (ds @ ws.T).reshape(xs.shape), 7)
    assert_close(dw, xs.reshape(4, 30).T @ ds, 4)
    assert_close(db, ds.sum(axis=0), 4)
    assert affine_backward(dout, cache, input_grad=False)[0] is None
    assert fc_forward is affine_forward
    assert fc_backward is affine_backward


def test_relu_passes_the_gradient_where_the_input_is_positive(backend):
    x = backend.asarray(np.array([[-2.0, 0.0, 3.0, np.inf]]))
    out, cache = relu_forward(x)
    assert backend.to_numpy(out).tolist() == [[0, 0, 3, math.inf]]
    dx = relu_backward(backend.asarray(np.array([[np.inf, 5.0, 7.0, 1.0]])), cache)
    assert backend.to_numpy(dx).tolist() == [[0, 0, 7, 1]]


def test_relu_lets_nan_through(backend):
    out, _ = relu_forward(backend.asarray(np.array([np.nan, 1.0])))
    assert np.isnan(backend.to_numpy(out)[0])


def test_affine_without_a_bias(backend, rng, dtype):
    x, w, dout = arrays(backend, rng, dtype, (4, 3, 2), (6, 5), (4, 5))
    out, cache = affine_forward(x, w, None)
    xs, ws, ds = (backend.to_numpy(a).astype(np.float64) for a in (x, w, dout))
    assert_close(out, xs.reshape(4, 6) @ ws, 6)
    dx, dw, db = affine_backward(dout, cache)
    assert db is None
    assert_close(dx, (ds @ ws.T).reshape(xs.shape), 5)
    assert_close(dw, xs.reshape(4, 6).T @ ds, 4)


@pytest.mark.parametrize("param", [{}, {"alpha": 0.2}, {"alpha": 0}])
def test_leaky_relu_has_a_slope_below_zero(backend, rng, dtype, param):
    x, dout = rng.standard_normal((2, 3, 4, 5)).astype(dtype)[:2]
    x[0, 0] = 0
    out, cache = leaky_relu_forward(backend.asarray(x), param)
    slope = param.get("alpha", 0.01)
    assert out.dtype == dtype
    assert_close(out, [[[v if v > 0 else slope * v for v in row] for row in plane] for plane in x.tolist()])
    dx = leaky_relu_backward(backend.asarray(dout), cache)
    assert dx.dtype == dtype
    assert_close(dx, np.where(x > 0, 1, slope) * dout.astype(np.float64))


@pytest.mark.parametrize("keep", [0.2, 0.7, 1.0])
def test_dropout_keeps_a_share_and_its_scale(backend, keep, dtype):
    x = backend.asarray(np.full((200, 300), 10, dtype))
    np.random.seed(3)
    out, cache = dropout_forward(x, {"mode": "train", "p": keep})
    values = backend.to_numpy(out)
    assert out.dtype == dtype
    assert abs((values != 0).mean() - keep) < 0.01
    assert abs(values.mean() - 10) < 0.2
    dx = backend.to_numpy(dropout_backward(backend.asarray(np.ones_like(values)), cache))
    np.testing.assert_array_equal(dx != 0, values != 0)
    np.testing.assert_allclose(dx * 10, values, rtol=1e-6)


def test_dropout_draws_as_the_course_does_and_a_seed_leaves_the_global_state_alone(backend):
    x = backend.asarray(np.ones((5, 6)))
    np.random.seed(7)
    expected = (np.random.rand(5, 6) < 0.4) / 0.4
    np.random.seed(7)
    first, _ = dropout_forward(x, {"mode": "train", "p": 0.4})
    state = np.random.get_state()[1].copy()
    seeded = [dropout_forward(x, {"mode": "train", "p": 0.4, "seed": 7})[0] for _ in range(2)]
    for out in (first, *seeded):
        np.testing.assert_array_equal(backend.to_numpy(out), expected)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_dropout_does_nothing_in_test_mode(backend, rng):
    (x,) = arrays(backend, rng, np.float64, (3, 4))
    out, cache = dropout_forward(x, {"mode": "test", "p": 0.3})
    np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(x))
    np.testing.assert_array_equal(backend.to_numpy(dropout_backward(x, cache)), backend.to_numpy(x))


# The course's example, a published known answer.
KNOWN_CONV = [
    [[[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]],
     [[0.21027089, 0.21661097], [0.22847626, 0.23004637]],
     [[0.50813986, 0.54309974], [0.64082444, 0.67101435]]],
    [[[-0.98053589, -1.03143541], [-1.19128892, -1.24695841]],
     [[0.69108355, 0.66880383], [0.59480972, 0.56776003]],
     [[2.36270298, 2.36904306], [2.38090835, 2.38247847]]],
]  # fmt: skip


def test_naive_convolution_has_the_known_output():
    x = np.linspace(-0.1, 0.5, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    w = np.linspace(-0.2, 0.3, num=3 * 3 * 4 * 4).reshape(3, 3, 4, 4)
    b = np.linspace(-0.1, 0.2, num=3)
    out, cache = conv_forward_naive(x, w, b, {"stride": 2, "pad": 1})
    assert rel_error(out, np.array(KNOWN_CONV)) == pytest.approx(2.2e-8, rel=0.05)
    assert cache[0] is x
    assert cache[1] is w
    assert cache[2] is b
    assert cache[3] == {"stride": 2, "pad": 1}


def test_naive_pooling_has_the_known_output():
    x = np.linspace(-0.3, 0.4, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    out, (cached_x, pool_param) = max_pool_forward_naive(x, {"pool_width": 2, "pool_height": 2, "stride": 2})
    assert rel_error(out[0, 0], np.array([[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]])) < 1e-7
    assert cached_x is x
    assert pool_param["stride"] == 2


def test_naive_gradients_at_the_sizes_of_the_course():
    np.random.seed(231)
    x, w, b = np.random.randn(4, 3, 5, 5), np.random.randn(2, 3, 3, 3), np.random.randn(2)
    dout, conv_param = np.random.randn(4, 2, 5, 5), {"stride": 1, "pad": 1}
    numeric = [
        eval_numerical_gradient_array(lambda _: conv_forward_naive(x, w, b, conv_param)[0], a, dout) for a in (x, w, b)
    ]
    analytic = conv_backward_naive(dout, conv_forward_naive(x, w, b, conv_param)[1])
    for limit, ours, theirs in zip((2e-8, 1e-9, 1e-10), analytic, numeric, strict=True):
        assert rel_error(ours, theirs) < limit

    x, dout = np.random.randn(3, 2, 8, 8), np.random.randn(3, 2, 4, 4)
    pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    numeric_dx = eval_numerical_gradient_array(lambda x: max_pool_forward_naive(x, pool_param)[0], x, dout)
    dx = max_pool_backward_naive(dout, max_pool_forward_naive(x, pool_param)[1])
    assert rel_error(dx, numeric_dx) < 1e-10


@pytest.mark.parametrize(
    ("x_type", "w_type", "result"),
    [
        ("u1", "f8", "f8"),
        ("u1", "f4", "f4"),
        ("f4", "f8", "f8"),
        ("f4", "i8", "f4"),
        (">f4", "f4", "f4"),
        ("?", "f8", "f8"),
    ],
)
def test_dtypes_promote_to_the_floating_partner(backend, rng, x_type, w_type, result):
    x = backend.asarray((rng.random((3, 6)) * 9).astype(x_type))
    w = backend.asarray((rng.random((6, 2)) * 9).astype(w_type))
    out, cache = affine_forward(x, w, backend.asarray(np.arange(2)))
    assert out.dtype == np.dtype(result)
    assert all(g.dtype == np.dtype(result) for g in affine_backward(out, cache))
    exact = backend.to_numpy(x).astype(np.float64) @ backend.to_numpy(w).astype(np.float64) + np.arange(2)
    assert_close(out, exact, 6)
