"""Sizes of convolutions and poolings in 1 to 3 dimensions: against counting, against PyTorch; the loops in all of them."""

import itertools

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given
from hypothesis import strategies as st
from oracles import loops

from gconv.backends.base import argmax_dtype
from gconv.geometry import conv_geometry, output_size, pool_geometry, window_geometry


@st.composite
def convolutions(draw, largest=12):
    """Return (x_shape, w_shape, stride, pad, dilation, groups), where the filter may not fit."""
    axes, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def sizes(low, high):
        return tuple(draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes)))

    channels, filters = draw(st.integers(0, 2)), draw(st.integers(1, 2))
    x_shape = (draw(st.integers(0, 2)), channels * groups, *sizes(0, largest))
    return x_shape, (filters * groups, channels, *sizes(1, 4)), sizes(1, 3), sizes(0, 2), sizes(1, 3), groups


def places(size, field, stride, pad, dilation):
    """Return where windows begin, by looking at every place in the padded image."""
    padded = range(size + 2 * pad)
    return [p for p in padded if p % stride == 0 and all(p + dilation * tap in padded for tap in range(field))]


@given(convolutions())
def test_convolutions_against_counting(case):
    x_shape, w_shape, stride, pad, dilation, _ = case
    sizes = zip(x_shape[2:], w_shape[2:], stride, pad, dilation, strict=True)
    counted = tuple(len(places(*numbers)) for numbers in sizes)
    if min(counted) < 1:
        with pytest.raises(ValueError, match=r"^f: w must fit into the padded image .*; got filters"):
            conv_geometry("f", *case)
        return
    g = conv_geometry("f", *case)
    assert g.out == (x_shape[0], w_shape[0], *counted)
    assert g[:2] + g[3:] == case
    assert g.of_images(7).out == (7, *g.out[1:])
    assert g.of_images(7).of_images(x_shape[0]) == g


@given(convolutions())
def test_poolings_against_counting(case):
    x_shape, (_, _, *window), stride, *_ = case
    counted = tuple(len(places(*numbers, 0, 1)) for numbers in zip(x_shape[2:], window, stride, strict=True))
    if min(counted) < 1:
        with pytest.raises(ValueError, match=r"^f: the pooling window must fit into the image"):
            pool_geometry("f", x_shape, window, stride)
        return
    g = pool_geometry("f", x_shape, window, stride)
    assert g.out == (*x_shape[:2], *counted)
    columns = g.columns()
    assert columns.out == (x_shape[0] * x_shape[1], 1, *counted)
    assert columns == conv_geometry("f", columns.x, columns.w, stride)


def brute_force(g, x, w, b):
    """Return the convolution from its formula, tap by tap."""
    out = np.zeros(g.out)
    for n, f, *place in np.ndindex(*g.out):
        first = f // (g.w[0] // g.groups) * g.w[1]
        total = b[f]
        for c, *tap in np.ndindex(*g.w[1:]):
            at = [p * s + t * d - z for p, s, t, d, z in zip(place, g.stride, tap, g.dilation, g.pad, strict=True)]
            if all(0 <= a < size for a, size in zip(at, g.x[2:], strict=True)):
                total += x[(n, first + c, *at)] * w[(f, c, *tap)]
        out[(n, f, *place)] = total
    return out


@given(convolutions(largest=5), st.integers(0, 2**32 - 1))
def test_the_loops_are_general(case, seed):
    try:
        g = conv_geometry("f", *case)
    except ValueError:
        return
    rng = np.random.default_rng(seed)
    x, w, b, dout = (rng.standard_normal(shape) for shape in (g.x, g.w, g.w[:1], g.out))
    out = loops.conv_forward(x, w, b, g)
    assert_close(out, brute_force(g, x, w, b), w[0].size)
    # the gradients are the adjoints of what is linear in x and in w
    dx, dw, db = loops.conv_backward(dout, x, w, g)
    for gradient, value in ((dx, x), (dw, w)):
        np.testing.assert_allclose(
            np.vdot(gradient, value), np.vdot(dout, loops.conv_forward(x, w, 0 * b, g)), rtol=1e-9, atol=1e-9
        )
    assert_close(db, dout.sum(axis=(0, *range(2, dout.ndim))), max(dout.size, 1))
    if g.groups == 1:
        cols = loops.im2col(x, g)
        product = (w.reshape(len(w), -1) @ cols).reshape(len(w), len(x), *g.out[2:]).swapaxes(0, 1)
        assert_close(product, brute_force(g, x, w, 0 * b), w[0].size)
        y = rng.standard_normal(cols.shape)
        np.testing.assert_allclose(np.vdot(cols, y), np.vdot(x, loops.col2im(y, g)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("shape", "window"), [((2, 3, 9), 3), ((1, 2, 5, 4), (2, 3)), ((2, 1, 4, 5, 3), (2, 1, 3))])
def test_the_loops_pool_in_every_dimension(rng, shape, window):
    x = rng.permutation(float(np.prod(shape)) - np.arange(np.prod(shape))).reshape(shape)
    g = pool_geometry("f", shape, window, 2)
    out, argmax = loops.max_pool_forward(x, g)
    dx = loops.max_pool_backward(np.ones(g.out), argmax, g)
    for n, c, *place in np.ndindex(*g.out):
        corners = [p * 2 for p in place]
        values = x[(n, c, *(slice(a, a + size) for a, size in zip(corners, g.window, strict=True)))]
        assert out[(n, c, *place)] == values.max()
        assert argmax[(n, c, *place)] == values.argmax()
    assert dx.sum() == out.size
    assert set(x[dx > 0]) == set(out.ravel())
    assert argmax.dtype == argmax_dtype(g.window) == "uint8"


@pytest.mark.peers
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_against_pytorch(rng, axes):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'gconv[peers]'")
    convolve = getattr(torch.nn.functional, f"conv{axes}d")
    pool = getattr(torch.nn.functional, f"max_pool{axes}d")
    for stride, pad, dilation, groups in itertools.product((1, 3), (0, 2), (1, 2), (1, 2)):
        x, w, b = (
            rng.standard_normal((2, 4, *(9, 6, 7)[:axes])),
            rng.standard_normal((6, 4 // groups, *(3, 2, 1)[:axes])),
            rng.standard_normal(6),
        )
        options = {"stride": stride, "padding": pad, "dilation": dilation, "groups": groups}
        theirs = convolve(*(torch.tensor(a) for a in (x, w, b)), **options)
        g = conv_geometry("f", x.shape, w.shape, stride, pad, dilation, groups)
        assert g.out == tuple(theirs.shape)
        assert_close(loops.conv_forward(x, w, b, g), theirs.numpy(), w[0].size)
    g = pool_geometry("f", x.shape, 2, 3)
    assert g.out == tuple(pool(torch.tensor(x), 2, 3).shape)


BAD = [
    (((2, 3), (4, 3)), {}, ValueError, r"x must have 3 to 5 axes \(N, C, and 1 to 3 spatial ones\); got shape \(2, 3\)"),
    (((2, 3, 5), (4, 3, 1, 1)), {}, ValueError, r"w must have 3 axes \(F, C, ...\) to match x \(2, 3, 5\); got shape"),
    (((2, 3, 5), (4, 2, 1)), {}, ValueError, r"w must have 3 channels to match x \(2, 3, 5\); got w \(4, 2, 1\)"),
    (((2, 4, 5), (4, 4, 1)), {"groups": 2}, ValueError, r"w must have 2 channels to match x \(2, 4, 5\); got w"),
    (((2, 4, 5), (4, 1, 1)), {"groups": 3}, ValueError, "groups must divide the 4 channels of x; got 3"),
    (((2, 4, 5), (3, 2, 1)), {"groups": 2}, ValueError, "groups must divide the 3 filters of w; got 2"),
    (((2, 4, 5), (4, 4, 1)), {"groups": 0}, ValueError, "groups must be a positive integer; got 0"),
    (((2, 4, 5, 5), (4, 4, 3, 3)), {"dilation": (1, 3)}, ValueError, "w must fit into the padded image 5x5; got filters 3x3 with dilation 1x3"),
    (((2, 4, 5, 5), (4, 4, 3, 3)), {"dilation": 0}, ValueError, "dilation must be a positive integer; got 0"),
    (((2, 4, 5, 5, 5), (4, 4, 1, 1, 1)), {"stride": (1, 2)}, ValueError, r"stride must be an integer or a \(depth, vertical, horizontal\) triple; got \(1, 2\)"),
    (((2, 4, 5), (4, 4, 1)), {"pad": (1, 2)}, ValueError, "pad must be an integer or a tuple of one; got"),
    (((2, 4, 5), (4, 4, 1)), {"stride": "2"}, TypeError, "stride must be a positive integer; got '2'"),
    (((2, 4, 5), (4, 4, 0)), {}, ValueError, "w must have filters of at least 1; got w"),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "options", "error", "text"), BAD, ids=[case[3][:40] for case in BAD])
def test_what_is_no_convolution(shapes, options, error, text):
    with pytest.raises(error, match=f"^f: {text}"):
        conv_geometry("f", *shapes, **options)


def test_sizes_of_other_number_types_become_ints():
    g = window_geometry("f", tuple(np.array((1, 2, 4, 4))), np.int64(3), 3, 1, np.int32(2))
    assert {type(size) for sizes in g[:6] for size in sizes} == {int}
    assert output_size(4, 3, 2, 1) == g.out[2] == 2


GENERAL = [
    conv_geometry("f", (1, 2, 5), (2, 2, 3)),
    conv_geometry("f", (1, 2, 3, 3, 3), (2, 2, 3, 3, 3)),
    conv_geometry("f", (1, 2, 5, 5), (2, 2, 3, 3), dilation=(1, 2)),
    conv_geometry("f", (1, 2, 5, 5), (2, 1, 3, 3), groups=2),
]


@pytest.mark.parametrize("geometry", GENERAL, ids=["1-D", "3-D", "dilation", "groups"])
def test_kernels_refuse_what_they_do_not_know(backend, geometry):
    """The same class and text on every backend but the loops, which know it all."""
    x, w, b, out = (backend.asarray(np.ones(s)) for s in (geometry.x, geometry.w, geometry.w[:1], geometry.out))
    pool = pool_geometry("f", geometry.x, 1, 1)
    calls = {
        "conv_forward": lambda: backend.conv_forward(x, w, b, geometry),
        "conv_backward": lambda: backend.conv_backward(out, x, w, geometry),
    }
    if geometry.groups == 1:
        calls["im2col"] = lambda: backend.im2col(x, geometry)
        calls["col2im"] = lambda: backend.col2im(backend.asarray(np.ones((w[0].size, out[:, 0].size))), geometry)
    if len(geometry.stride) != 2:
        calls["max_pool_forward"] = lambda: backend.max_pool_forward(x, pool)
    if backend.name == "naive":
        for call in calls.values():
            call()
        return
    places = backend.asarray(np.zeros(geometry.out), "uint8")
    calls["conv_relu_pool_forward"] = lambda: backend.conv_relu_pool_forward(x, w, b, geometry, pool)
    calls["conv_relu_pool_backward"] = lambda: backend.conv_relu_pool_backward(out, out, places, x, w, geometry, pool)
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name}: geometry must have .*, other kernels are missing; got "):
            call()


@pytest.mark.parametrize("activation", ["gelu", "", 1, ["relu"]])
def test_an_activation_that_does_not_exist(backend, activation):
    x, w, b = (backend.asarray(np.ones(s)) for s in ((2, 3), (3, 3), (3,)))
    rows = x.reshape(2, 3, 1)
    g = conv_geometry("f", (2, 3, 1, 1), (3, 3, 1, 1))
    for name, call in {
        "affine_forward": lambda: backend.affine_forward(x, w, b, activation),
        "conv_forward": lambda: backend.conv_forward(x.reshape(g.x), w.reshape(g.w), b, g, activation),
        "batchnorm_train": lambda: backend.batchnorm_train(rows, b, b, 1e-5, activation),
        "batchnorm_test": lambda: backend.batchnorm_test(rows, b, b, b, b, 1e-5, activation),
        "batchnorm_backward": lambda: backend.batchnorm_backward(rows, rows, b, b, b, 1e-5, activation, rows),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: activation must be one of None, 'relu'; got"):
            call()
