"""Sandwiches equal the layers they are made of, and pass the numeric gradient check."""

import numpy as np
import pytest
from conftest import assert_close

from gconv import layer_utils
from gconv.fast_layers import conv_forward_fast, max_pool_forward_fast
from gconv.gradient_check import eval_numerical_gradient_array, rel_error
from gconv.layers import (
    affine_forward,
    batchnorm_forward,
    leaky_relu_forward,
    relu_forward,
    spatial_batchnorm_forward,
)

CONV = {"stride": 1, "pad": 1}
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}
OVERLAPPING = {"pool_height": 3, "pool_width": 2, "stride": (1, 2)}


def conv_bn_relu(x, w, b, gamma, beta, conv_param, bn_param):
    conv = conv_forward_fast(x, w, b, conv_param)[0]
    return relu_forward(spatial_batchnorm_forward(conv, gamma, beta, bn_param)[0])[0]


def composed(name, arrays, params):
    if name == "affine_leaky_relu":
        return leaky_relu_forward(affine_forward(*arrays)[0], *params)[0]
    if "leaky" in name:
        out = leaky_relu_forward(conv_forward_fast(*arrays, params[0])[0], params[-1])[0]
        return max_pool_forward_fast(out, params[1])[0] if name.endswith("pool") else out
    if name == "affine_relu":
        return relu_forward(affine_forward(*arrays)[0])[0]
    if name == "affine_bn_relu":
        x, w, b, gamma, beta = arrays
        return relu_forward(batchnorm_forward(affine_forward(x, w, b)[0], gamma, beta, *params)[0])[0]
    if name.startswith("conv_bn_relu"):
        out = conv_bn_relu(*arrays, *params[:2])
    else:
        out = relu_forward(conv_forward_fast(*arrays, params[0])[0])[0]
    return max_pool_forward_fast(out, params[-1])[0] if name.endswith("pool") else out


SANDWICHES = [
    ("affine_relu", ((3, 2, 4), (8, 5), (5,)), ()),
    ("affine_bn_relu", ((6, 2, 4), (8, 5), (5,), (5,), (5,)), ({"mode": "train"},)),
    ("affine_leaky_relu", ((3, 2, 4), (8, 5), (5,)), ({"alpha": 0.1},)),
    ("conv_leaky_relu", ((2, 3, 6, 5), (3, 3, 3, 3), (3,)), (CONV, {})),
    ("conv_leaky_relu_pool", ((2, 3, 7, 5), (3, 3, 3, 3), (3,)), (CONV, POOL, {"alpha": 0.2})),
    ("conv_relu", ((2, 3, 6, 5), (3, 3, 3, 3), (3,)), (CONV,)),
    ("conv_bn_relu", ((2, 3, 6, 5), (3, 3, 3, 3), (3,), (3,), (3,)), (CONV, {"mode": "train"})),
    ("conv_relu_pool", ((2, 3, 7, 5), (3, 3, 3, 3), (3,)), (CONV, POOL)),
    ("conv_relu_pool", ((2, 3, 7, 5), (3, 3, 3, 3), (3,)), (CONV, OVERLAPPING)),
    ("conv_bn_relu_pool", ((2, 3, 6, 5), (3, 3, 3, 3), (3,), (3,), (3,)), (CONV, {"mode": "train"}, OVERLAPPING)),
]


@pytest.mark.parametrize(("name", "shapes", "params"), SANDWICHES)
def test_sandwich(backend, rng, name, shapes, params):
    forward, backward = (getattr(layer_utils, f"{name}_{way}") for way in ("forward", "backward"))
    arrays = [backend.asarray(rng.standard_normal(shape)) for shape in shapes]
    fresh = lambda: tuple(dict(p) for p in params)  # noqa: E731 -- bn_param changes at every call
    out, cache = forward(*arrays, *fresh())
    assert_close(out, backend.to_numpy(composed(name, arrays, fresh())), 27)
    dout = backend.asarray(rng.standard_normal(out.shape))
    grads = backward(dout, cache)
    assert len(grads) == len(arrays)
    for analytic, array in zip(grads, arrays, strict=True):
        numeric = eval_numerical_gradient_array(lambda _: forward(*arrays, *fresh())[0], array, dout)
        # A bias before a normalisation has the gradient 0, of which no relative error can be had.
        scale = max(float(backend.xp.abs(numeric).max()), 1e-3)
        assert float(backend.xp.abs(analytic - numeric).max()) / scale < 1e-7
    skipped = backward(dout, cache, input_grad=False)
    assert skipped[0] is None
    for kept, again in zip(grads[1:], skipped[1:], strict=True):
        np.testing.assert_array_equal(backend.to_numpy(kept), backend.to_numpy(again))


@pytest.mark.parametrize(("name", "shapes", "params"), SANDWICHES)
def test_sandwich_without_a_bias(backend, rng, name, shapes, params):
    """The same as with a bias of zeros, but for its gradient."""
    forward, backward = (getattr(layer_utils, f"{name}_{way}") for way in ("forward", "backward"))
    x, w, b, *others = (backend.asarray(rng.standard_normal(shape)) for shape in shapes)
    out, cache = forward(x, w, None, *others, *(dict(p) for p in params))
    expected, expected_cache = forward(x, w, b * 0, *others, *(dict(p) for p in params))
    np.testing.assert_array_equal(backend.to_numpy(out), backend.to_numpy(expected))
    grads, expected_grads = backward(out, cache), backward(out, expected_cache)
    assert grads[2] is None
    for place in {*range(len(grads))} - {2}:
        ours, theirs = (backend.to_numpy(g[place]) for g in (grads, expected_grads))
        np.testing.assert_array_equal(ours, theirs)


def test_fused_stops_the_gradient_where_the_relu_did(backend):
    """All windows tie at 0 after the ReLU: nothing may pass."""
    x = backend.asarray(-np.ones((1, 1, 4, 4)))
    w, b = backend.asarray(np.ones((1, 1, 1, 1))), backend.asarray(np.zeros(1))
    out, cache = layer_utils.conv_relu_pool_forward(x, w, b, {"stride": 1, "pad": 0}, POOL)
    dx, dw, db = layer_utils.conv_relu_pool_backward(backend.asarray(np.full((1, 1, 2, 2), np.inf)), cache)
    for array in (out, dx, dw, db):
        assert not backend.to_numpy(array).any()


def test_many_images_are_worked_on_in_blocks(backend, rng):
    """More images than one block holds: the gradients of the filters must add up over the blocks."""
    x = backend.asarray(rng.standard_normal((70, 3, 32, 32)).astype(np.float32))
    w = backend.asarray(rng.standard_normal((16, 3, 3, 3)).astype(np.float32))
    b = backend.asarray(rng.standard_normal(16).astype(np.float32))
    out, cache = layer_utils.conv_relu_pool_forward(x, w, b, CONV, POOL)
    conv, conv_cache = layer_utils.conv_relu_forward(x, w, b, CONV)
    pooled, pool_cache = max_pool_forward_fast(conv, POOL)
    assert rel_error(out, pooled) < 1e-3
    dout = backend.asarray(rng.standard_normal(out.shape).astype(np.float32))
    from gconv.fast_layers import max_pool_backward_fast

    expected = layer_utils.conv_relu_backward(max_pool_backward_fast(dout, pool_cache), conv_cache)
    for ours, theirs, terms in zip(
        layer_utils.conv_relu_pool_backward(dout, cache), expected, (144, 71680, 71680), strict=True
    ):
        assert_close(ours, backend.to_numpy(theirs).astype(np.float64), terms)
