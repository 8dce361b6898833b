"""Batch, layer, group and spatial normalisation: the loops, numeric gradients, running averages, modes."""

import numpy as np
import pytest
from conftest import assert_close

from gconv.backends.naive import NaiveBackend
from gconv.gradient_check import eval_numerical_gradient_array, rel_error
from gconv.layers import (
    batchnorm_backward,
    batchnorm_backward_alt,
    batchnorm_forward,
    layernorm_backward,
    layernorm_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
)

loops = NaiveBackend()
GROUPS = 2
PAIRS = {
    "batchnorm": (lambda x, g, b: batchnorm_forward(x, g, b, {"mode": "train"}), batchnorm_backward, (6, 4)),
    "batchnorm_alt": (lambda x, g, b: batchnorm_forward(x, g, b, {"mode": "train"}), batchnorm_backward_alt, (6, 4)),
    "spatial_batchnorm": (
        lambda x, g, b: spatial_batchnorm_forward(x, g, b, {"mode": "train"}),
        spatial_batchnorm_backward,
        (2, 4, 3, 5),
    ),
    "layernorm": (lambda x, g, b: layernorm_forward(x, g, b, {}), layernorm_backward, (6, 4)),
    "spatial_groupnorm": (
        lambda x, g, b: spatial_groupnorm_forward(x, g, b, GROUPS, {}),
        spatial_groupnorm_backward,
        (2, 4, 3, 5),
    ),
}


def arguments(backend, rng, dtype, shape):
    channels = shape[1]
    x = (rng.standard_normal(shape) * 3 + 5).astype(dtype)
    return tuple(
        backend.asarray(a.astype(dtype)) for a in (x, rng.random(channels) + 0.5, rng.standard_normal(channels))
    )


@pytest.mark.parametrize("name", PAIRS)
def test_against_numeric_gradients(backend, rng, name):
    forward, backward, shape = PAIRS[name]
    arrays = arguments(backend, rng, np.float64, shape)
    out, cache = forward(*arrays)
    dout = backend.asarray(rng.standard_normal(out.shape))
    for analytic, array in zip(backward(dout, cache), arrays, strict=True):
        numeric = eval_numerical_gradient_array(lambda _: forward(*arrays)[0], array, dout)
        assert rel_error(analytic, numeric) < 1e-5


@pytest.mark.parametrize("backward", [batchnorm_backward, batchnorm_backward_alt])
def test_test_mode_takes_the_running_averages_as_constants(backend, rng, backward):
    x, gamma, beta = arguments(backend, rng, np.float64, (6, 4))
    running = {
        "running_mean": backend.asarray(rng.standard_normal(4)),
        "running_var": backend.asarray(rng.random(4) + 1),
    }
    out, cache = batchnorm_forward(x, gamma, beta, {"mode": "test", **running})
    dout = backend.asarray(rng.standard_normal(out.shape))
    for analytic, array in zip(backward(dout, cache), (x, gamma, beta), strict=True):
        numeric = eval_numerical_gradient_array(
            lambda _: batchnorm_forward(x, gamma, beta, {"mode": "test", **running})[0], array, dout
        )
        assert rel_error(analytic, numeric) < 1e-7


def test_batchnorm_against_the_loops(backend, rng, dtype):
    x, gamma, beta = arguments(backend, rng, dtype, (5, 3, 4, 2))
    xs, gs, bs = (backend.to_numpy(a).astype(np.float64) for a in (x, gamma, beta))
    flat = xs.reshape(5, 3, 8)
    expected, mean, var = loops.batchnorm_train(flat, gs, bs, 1e-5)
    out, cache = spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
    assert out.dtype == dtype
    assert_close(out, expected.reshape(xs.shape), 40)
    dout = rng.standard_normal(xs.shape).astype(dtype)
    theirs = loops.batchnorm_backward(dout.astype(np.float64).reshape(5, 3, 8), flat, gs, mean, var, 1e-5)
    ours = spatial_batchnorm_backward(backend.asarray(dout), cache)
    for a, b in zip(ours, (theirs[0].reshape(xs.shape), *theirs[1:]), strict=True):
        assert_close(a, b, 400)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_groupnorm_against_the_loops(backend, rng, dtype, groups):
    x, gamma, beta = arguments(backend, rng, dtype, (2, 6, 3, 2))
    xs, gs, bs = (backend.to_numpy(a).astype(np.float64) for a in (x, gamma, beta))
    flat = xs.reshape(2, 6, 6)
    expected, mean, var = loops.groupnorm_forward(flat, gs, bs, groups, 1e-5)
    shaped = [a.reshape(1, 6, 1, 1) for a in (gamma, beta)]  # the course's shape of gamma and beta
    out, cache = spatial_groupnorm_forward(x, *shaped, groups, {})
    assert_close(out, expected.reshape(xs.shape), 36)
    dout = rng.standard_normal(xs.shape).astype(dtype)
    theirs = loops.groupnorm_backward(dout.astype(np.float64).reshape(2, 6, 6), flat, gs, mean, var, groups, 1e-5)
    dx, dgamma, dbeta = spatial_groupnorm_backward(backend.asarray(dout), cache)
    assert dgamma.shape == dbeta.shape == (1, 6, 1, 1)
    for ours, b in zip(
        (dx, dgamma.reshape(-1), dbeta.reshape(-1)), (theirs[0].reshape(xs.shape), *theirs[1:]), strict=True
    ):
        assert_close(ours, b, 400)


def test_running_averages_move_with_the_momentum_and_serve_in_test_mode(backend, rng):
    bn_param = {"mode": "train", "momentum": 0.8}
    x, gamma, beta = arguments(backend, rng, np.float64, (50, 3))
    xs = backend.to_numpy(x)
    mean = var = np.zeros(3)
    for _ in range(40):
        batchnorm_forward(x, gamma, beta, bn_param)
        mean, var = 0.8 * mean + 0.2 * xs.mean(axis=0), 0.8 * var + 0.2 * xs.var(axis=0)
    np.testing.assert_allclose(backend.to_numpy(bn_param["running_mean"]), mean, rtol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(bn_param["running_var"]), var, rtol=1e-12)
    bn_param["mode"] = "test"
    before = {key: backend.to_numpy(bn_param[key]).copy() for key in ("running_mean", "running_var")}
    out, _ = batchnorm_forward(x, gamma, beta, bn_param)
    expected = backend.to_numpy(gamma) * (xs - mean) / np.sqrt(var + 1e-5) + backend.to_numpy(beta)
    np.testing.assert_allclose(backend.to_numpy(out), expected, rtol=1e-10)
    for key, value in before.items():
        np.testing.assert_array_equal(backend.to_numpy(bn_param[key]), value)


def test_variance_keeps_its_digits_where_the_mean_is_large(backend, rng):
    x = rng.standard_normal((64, 2, 4, 4)).astype(np.float32) + np.float32(3000)
    gamma, beta = np.ones(2, np.float32), np.zeros(2, np.float32)
    out, _ = spatial_batchnorm_forward(*(backend.asarray(a) for a in (x, gamma, beta)), {"mode": "train"})
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(axis=(0, 2, 3), keepdims=True)) / exact.std(axis=(0, 2, 3), keepdims=True)
    assert np.abs(backend.to_numpy(out) - exact).max() < 2e-3


def test_the_smallest_eps_normalises_a_constant_to_zero(backend):
    for dtype, eps in ((np.float32, 1e-44), (np.float64, 1e-60)):
        x, ones, zeros = (backend.asarray(array) for array in (np.full((4, 3), 7, dtype), *np.eye(2, 3, dtype=dtype)))
        for out, _ in (
            batchnorm_forward(x, ones, zeros * 0, {"mode": "train", "eps": eps}),
            layernorm_forward(x, ones, zeros * 0, {"eps": eps}),
        ):
            assert not backend.to_numpy(out).any()


def test_an_empty_batch_leaves_the_running_averages_alone(backend):
    kept = backend.asarray(np.array([1.0, 2.0]))
    bn_param = {"mode": "train", "running_mean": kept, "running_var": kept}
    ones = backend.asarray(np.ones(2))
    out, cache = batchnorm_forward(backend.asarray(np.zeros((0, 2))), ones, ones, bn_param)
    assert out.shape == (0, 2)
    np.testing.assert_array_equal(backend.to_numpy(bn_param["running_mean"]), [1, 2])
    for backward in (batchnorm_backward, batchnorm_backward_alt):
        dx, dgamma, _ = backward(out, cache)
        assert dx.shape == (0, 2)
        assert backend.to_numpy(dgamma).tolist() == [0, 0]
    out, cache = layernorm_forward(backend.asarray(np.zeros((0, 2))), ones, ones, {})
    assert layernorm_backward(out, cache)[0].shape == (0, 2)


@pytest.mark.peers
def test_against_pytorch(backend, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'gconv[peers]'")
    functional = torch.nn.functional
    x, gamma, beta = arguments(backend, rng, np.float64, (3, 4, 5, 2))
    leaves = [torch.tensor(backend.to_numpy(a), requires_grad=True) for a in (x, gamma, beta)]
    dout = rng.standard_normal(x.shape)
    for forward, backward, theirs in (
        (
            lambda: spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"}),
            spatial_batchnorm_backward,
            functional.batch_norm(leaves[0], None, None, leaves[1], leaves[2], training=True, eps=1e-5),
        ),
        (
            lambda: spatial_groupnorm_forward(x, gamma, beta, 2, {}),
            spatial_groupnorm_backward,
            functional.group_norm(leaves[0], 2, leaves[1], leaves[2], eps=1e-5),
        ),
    ):
        out, cache = forward()
        np.testing.assert_allclose(backend.to_numpy(out), theirs.detach().numpy(), rtol=1e-9, atol=1e-11)
        grads = torch.autograd.grad(theirs, leaves, torch.tensor(dout))
        for ours, expected in zip(backward(backend.asarray(dout), cache), grads, strict=True):
            np.testing.assert_allclose(backend.to_numpy(ours), expected.numpy(), rtol=1e-8, atol=1e-11)
