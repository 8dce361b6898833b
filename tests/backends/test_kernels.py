"""The compiled kernels at every instruction set: sizes at which vectors end, special values, bits, memory, refusals.

The other side is the backend that runs on NumPy alone, in float64.
"""

import os
import subprocess
import sys
import warnings
from itertools import cycle, product

import numpy as np
import pytest
from conftest import assert_close
from oracles import conv, pool, windows
from update_oracle import copies, draw_update, flattened, fresh, run_update, update_formula

from gconv.backends.numpy_only import NumpyBackend
from gconv.backends.update_rules import UPDATE_RULES
from gconv.geometry import pool_geometry

_kernels = pytest.importorskip("gconv.kernels.cpu._kernels", reason="the kernels were not compiled here")
from gconv.backends.cpu import CpuBackend  # noqa: E402

WINDOWS = windows((1, 1, 4, 4), (3, 3), 1, 1)
EDGES = (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49)


@pytest.fixture(params=_kernels.simd_levels())
def level(request):
    before = _kernels.simd_level()
    _kernels.use_simd_level(request.param)
    yield request.param
    _kernels.use_simd_level(before)


@pytest.fixture(scope="module")
def plain():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return NumpyBackend()


@pytest.fixture(scope="module")
def cpu():
    return CpuBackend()


def test_what_is_in_the_build():
    assert _kernels.openmp_version() >= 201107
    assert _kernels.team_size(2) == 2
    assert _kernels.simd_levels()[-1] == "baseline"
    with pytest.raises(ValueError, match=r"name must be one of .*baseline; got 'mmx'"):
        _kernels.use_simd_level("mmx")


def convolutions():
    """Every width, height, number of filters and of channels of EDGES, with fields and strides in turn."""
    others = cycle([(3, 1, 1), (5, 2, 2), (1, 1, 0), (3, 2, 1), (2, 1, 0), (7, 1, 3), (3, 3, 2), (4, 5, 1), (1, 2, 0)])
    for i, width in enumerate(EDGES):
        field, stride, pad = next(others)
        height = max(EDGES[(5 * i + 3) % len(EDGES)] // 2, field - 2 * pad, 1)
        filters, channels = EDGES[(3 * i + 1) % len(EDGES)], (1, 3, 4, 9, 17)[i % 5]
        yield (1 + i % 3, channels, height, max(width, field - 2 * pad)), filters, field, (stride, stride), (pad, pad)
    yield (2, 16, 32, 32), 16, 3, (1, 1), (1, 1)  # by Winograd's transform, from here on
    yield (2, 17, 33, 31), 20, 3, (1, 1), (0, 2)
    yield (1, 16, 5, 70), 33, 3, (1, 1), (2, 1)
    yield (1, 64, 33, 20), 48, 3, (1, 1), (1, 1)
    yield (3, 3, 31, 31), 25, 3, (2, 2), (1, 1)
    yield (1, 40, 16, 16), 300, 1, (1, 1), (0, 0)  # sums too large for a group an image


@pytest.mark.parametrize("case", list(convolutions()), ids=str)
def test_convolution(cpu, plain, level, rng, dtype, case):
    shape, filters, field, stride, pad = case
    x, w, b = (
        rng.standard_normal(shape),
        rng.standard_normal((filters, shape[1], field, field)),
        rng.standard_normal(filters),
    )
    x, w, b = (a.astype(dtype) for a in (x, w, b))
    doubles, geometry = [a.astype(np.float64) for a in (x, w, b)], conv(x, w, stride, pad)
    for activation in (None, "relu"):
        out = cpu.conv_forward(x, w, b, geometry, activation)
        assert_close(out, plain.conv_forward(*doubles, geometry, activation), w[0].size)
    dout = rng.standard_normal(out.shape).astype(dtype)
    expected = plain.conv_backward(dout.astype(np.float64), *doubles[:2], geometry)
    terms = w[:, 0].size, out[:, 0].size, out[:, 0].size
    for name, ours, theirs, count in zip(
        ("dx", "dw", "db"), cpu.conv_backward(dout, x, w, geometry), expected, terms, strict=True
    ):
        assert_close(ours, theirs, count, name)


@pytest.mark.parametrize(
    "pooling", [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((2, 3), (3, 1)), ((1, 2), (1, 2)), ((17, 17), (5, 5))]
)
@pytest.mark.parametrize(
    "case", [((3, 3, 20, 33), 5, 7), ((2, 1, 31, 18), 17, 3), ((1, 9, 19, 19), 4, 5), ((2, 18, 18, 24), 16, 3)]
)
def test_convolution_relu_and_pooling(cpu, plain, level, rng, dtype, case, pooling):
    shape, filters, field = case
    x, w, b = (
        rng.standard_normal(shape),
        rng.standard_normal((filters, shape[1], field, field)),
        rng.standard_normal(filters),
    )
    x, w, b = (a.astype(dtype) for a in (x, w, b))
    geometry = conv(x, w, 1, field // 2)
    pooled = pool_geometry("test", geometry.out, *pooling)
    out, argmax = cpu.conv_relu_pool_forward(x, w, b, geometry, pooled)
    activation = cpu.conv_forward(x, w, b, geometry, "relu")
    composed, composed_argmax = cpu.max_pool_forward(activation, pooled)
    np.testing.assert_array_equal(out, composed)
    np.testing.assert_array_equal(argmax, composed_argmax)
    dout = rng.standard_normal(out.shape).astype(dtype)
    arrays = (dout, out, argmax, x, w)
    doubles = [a if a is argmax else a.astype(np.float64) for a in arrays]
    expected = plain.conv_relu_pool_backward(*doubles, geometry, pooled)
    terms = w[:, 0].size, activation[:, 0].size, activation[:, 0].size
    for name, ours, theirs, count in zip(
        ("dx", "dw", "db"), cpu.conv_relu_pool_backward(*arrays, geometry, pooled), expected, terms, strict=True
    ):
        assert_close(ours, theirs, count, name)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 2), (2, 3)])
@pytest.mark.parametrize("window", [(2, 2), (3, 3), (1, 2), (2, 1), (4, 5), (17, 17)])
@pytest.mark.parametrize("width", EDGES[2:])
def test_pooling(cpu, plain, level, rng, dtype, width, window, stride):
    x = rng.integers(5, size=(2, 3, 18, max(width, window[1]))).astype(dtype)
    x[0, 0, 3, 3], x[1, 1] = np.nan, -np.inf
    geometry = pool(x, window, stride)
    out, argmax = cpu.max_pool_forward(x, geometry)
    expected, expected_argmax = plain.max_pool_forward(x, geometry)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(argmax, expected_argmax)
    dout = rng.integers(-9, 9, size=out.shape).astype(dtype)  # sums of whole numbers are exact
    np.testing.assert_array_equal(
        cpu.max_pool_backward(dout, argmax, geometry), plain.max_pool_backward(dout, argmax, geometry)
    )


def test_special_values_reach_the_pixels_whose_windows_hold_them(cpu, plain, level, rng, dtype):
    """Winograd's transform would spread them over its tiles."""
    x, w = rng.standard_normal((4, 16, 20, 20)).astype(dtype), rng.standard_normal((16, 16, 3, 3)).astype(dtype)
    w /= 1000
    x[0, 3, 7, 7], x[1, 0, 0, 19], x[2, 5, 10, 3] = np.nan, np.inf, np.finfo(dtype).max * 0.75
    arrays, geometry = (x, w, np.zeros(16, dtype)), conv(x, w, 1, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = plain.conv_forward(*(a.astype(np.float64) for a in arrays), geometry)
        out = cpu.conv_forward(*arrays, geometry)
    small = np.abs(expected) < 1e30
    np.testing.assert_array_equal(np.isnan(out), np.isnan(expected))
    assert_close(out[small], expected[small], 144)
    w[2, 4, 1, 1] = np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        expected = plain.conv_forward(x[3:], w, arrays[2], geometry.of_images(1))
    out = cpu.conv_forward(x[3:], w, arrays[2], geometry.of_images(1))
    np.testing.assert_array_equal(np.isfinite(out), np.isfinite(expected))


@pytest.mark.parametrize("sizes", list(product((1, 7, 50, 129), (1, 16, 100, 257), (1, 9, 300, 1030)))[::3], ids=str)
def test_matrix_products(cpu, level, rng, dtype, sizes):
    n, m, d = sizes
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((n, d), (d, m), (m,)))
    doubles = [a.astype(np.float64) for a in (x, w, b)]
    expected = doubles[0] @ doubles[1] + doubles[2]
    assert_close(cpu.affine_forward(x, w, b), expected, d)
    assert_close(cpu.affine_forward(x, w, b, activation="relu"), np.maximum(expected, 0), d)
    dout = rng.standard_normal((n, m)).astype(dtype)
    dx, dw, _ = cpu.affine_backward(dout, x, w)
    assert_close(dx, dout.astype(np.float64) @ doubles[1].T, m)
    assert_close(dw, doubles[0].T @ dout.astype(np.float64), n)


@pytest.mark.parametrize("pixels", [16, 17, 31, 49, 130])
def test_batch_normalisation(cpu, plain, level, rng, dtype, pixels):
    x, gamma, beta = rng.standard_normal((5, 3, pixels)) * 3 + 100, rng.standard_normal(3), rng.standard_normal(3)
    x, gamma, beta = (a.astype(dtype) for a in (x, gamma, beta))
    doubles = [a.astype(np.float64) for a in (x, gamma, beta)]
    rounding = 100 * 5 * pixels  # of values of 100, of which the mean is subtracted
    for activation in (None, "relu"):
        out, mean, var = cpu.batchnorm_train(x, gamma, beta, 1e-5, activation)
        expected = plain.batchnorm_train(*doubles, 1e-5, activation)
        for ours, theirs in zip((out, mean, var), expected, strict=True):
            assert_close(ours, theirs, rounding)
        moments = [a.astype(np.float64) for a in (mean, var)]
        assert_close(
            cpu.batchnorm_test(x, gamma, beta, mean, var, 1e-5, activation),
            plain.batchnorm_test(*doubles, *moments, 1e-5, activation),
            rounding,
        )
        dout = rng.standard_normal(x.shape).astype(dtype)
        ours = cpu.batchnorm_backward(dout, x, gamma, mean, var, 1e-5, activation, out)
        theirs = plain.batchnorm_backward(dout.astype(np.float64), *doubles[:2], *moments, 1e-5, activation, out)
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other, rounding)


@pytest.mark.parametrize("classes", EDGES)
def test_losses(cpu, plain, level, rng, dtype, classes):
    x, y = (rng.standard_normal((20, classes)) * 30).astype(dtype), rng.integers(classes, size=20)
    for name in ("softmax_loss", "svm_loss"):
        loss, dx = getattr(cpu, name)(x, y)
        expected, expected_dx = getattr(plain, name)(x.astype(np.float64), y)
        assert loss.dtype == dx.dtype == dtype
        assert_close(np.asarray(loss), expected, classes)
        assert_close(dx, expected_dx, classes)
    x[3, 0], x[4, 0] = np.nan, -np.inf
    loss, dx = cpu.softmax_loss(x, y)
    assert np.isnan(loss)
    assert np.isnan(dx[3]).all()
    assert classes == 1 or np.isnan(cpu.svm_loss(x, y)[0])


@pytest.mark.parametrize("size", [1, 15, 16, 17, 5000, 40_001])
@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_update_rules(cpu, level, rng, dtype, rule, size):
    """Three steps between two pairs of arrays, and in place, with the same bits."""
    w, dw, states = draw_update(rng, rule, [size], dtype)
    apart, in_place, expected = (w, states), copies(w, states), (w, states)
    for t in (1, 2, 3):
        new = fresh(*apart)
        run_update(cpu, rule, apart, dw, new, t)
        run_update(cpu, rule, in_place, dw, in_place, t)
        apart, expected = new, update_formula(rule, t, *expected, dw)
    for a, b, exact in zip(*(flattened(*arrays) for arrays in (apart, in_place, expected)), strict=True):
        assert a.tobytes() == b.tobytes()
        assert_close(a, exact, 50)


def test_relu_and_penalty(cpu, level, rng, dtype):
    for size in (*EDGES, 50_001):
        x, dout = rng.standard_normal(size).astype(dtype), rng.standard_normal(size).astype(dtype)
        x[size // 2], dout[0] = np.nan, np.inf
        np.testing.assert_array_equal(cpu.relu_forward(x), np.maximum(x, 0))
        np.testing.assert_array_equal(cpu.relu_backward(dout, x), np.where(x > 0, dout, 0))
        w, grad = rng.standard_normal(size).astype(dtype), rng.standard_normal(size).astype(dtype)
        expected = 3 + 0.25 * np.sum(w.astype(np.float64) ** 2), grad + 0.5 * w
        assert_close(np.asarray(cpu.l2_penalty(np.array(3, dtype)[()], [w], [grad], 0.5)), expected[0], size)
        assert_close(grad, expected[1], 4)


@pytest.mark.parametrize("kind", ["f4", "f8", "u1", "?"])
def test_rows(cpu, rng, kind):
    for shape, count in (((40, 3, 5), 7), ((300, 30, 40), 250), ((9, 200_000), 3), ((5000,), 300_000), ((4, 0), 2)):
        x = rng.integers(0, 2, shape).astype(kind)
        indices = rng.integers(0, shape[0], count)
        for given in (x, x[::-1]):
            np.testing.assert_array_equal(cpu.gather_rows(given, indices), given[indices])
            np.testing.assert_array_equal(cpu.gather_rows(given, indices.astype(np.int32)), given[indices])
    with pytest.raises(IndexError, match=r"indices must be in \[0, 4\); got 4"):
        cpu.gather_rows(np.zeros((4, 100_000)), np.array([0, 4, 1]))


def everything(cpu, rng_seed, dtype):
    """Results of every kernel that shares its work among threads, on more values than one thread gets."""
    rng = np.random.default_rng(rng_seed)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((20, 16, 33, 31), (17, 16, 3, 3), (17,)))
    results = []
    for stride in (2, 1):
        geometry = conv(x, w, stride, 1)
        out = cpu.conv_forward(x, w, b, geometry)
        results += [out, *cpu.conv_backward(out, x, w, geometry)]
    geometries = geometry, pool(out, 2, 2)
    out, argmax = cpu.conv_relu_pool_forward(x, w, b, *geometries)
    results += [out, argmax, *cpu.conv_relu_pool_backward(out, out, argmax, x, w, *geometries)]
    flat, weights, bias = (rng.standard_normal(s).astype(dtype) for s in ((70, 3000), (3000, 40), (40,)))
    scores = cpu.affine_forward(flat, weights, bias)
    results += [scores, *cpu.affine_backward(scores, flat, weights)]
    rows = x.reshape(20, 16, -1)
    out, mean, var = cpu.batchnorm_train(rows, b[:16], b[:16], 1e-5)
    results += [out, mean, var, *cpu.batchnorm_backward(out, rows, b[:16], mean, var, 1e-5)]
    results.append(np.asarray(cpu.l2_penalty(np.array(0, dtype)[()], [x], [x.copy()], 0.1)))
    return results


def test_the_bits_do_not_depend_on_the_threads(cpu, level, dtype, monkeypatch):
    first = None
    for threads in (1, 2, 3, 5):
        monkeypatch.setattr("gconv.backends.threads._num_threads", threads)
        results = everything(cpu, 3, dtype)
        first = first or results
        for ours, theirs in zip(results, first, strict=True):
            np.testing.assert_array_equal(ours, theirs)


class TestRecycledMemory:
    SIZE = 3 << 16

    def test_an_array_that_is_gone_leaves_its_memory(self):
        def array():
            return np.ndarray((self.SIZE,), np.uint8, _kernels.Block(self.SIZE))

        addresses = set()
        for _ in range(20):
            made = array()
            made[...] = 1
            addresses.add(made.ctypes.data)
            del made
        assert len(addresses) == 1

    def test_arrays_that_live_share_nothing(self):
        arrays = [np.ndarray((self.SIZE // 8,), np.float64, _kernels.Block(self.SIZE)) for _ in range(30)]
        for i, array in enumerate(arrays):
            array[...] = i
        views = [array[::2] for array in arrays]
        del arrays
        more = [np.ndarray((self.SIZE // 8,), np.float64, _kernels.Block(self.SIZE)) for _ in range(30)]
        for array in more:
            array[...] = -1
        assert [set(view.tolist()) for view in views] == [{i} for i in range(30)]

    def test_too_much_is_a_memory_error(self):
        with pytest.raises(MemoryError, match="no memory for an array of"):
            _kernels.Block(1 << 62)


@pytest.mark.parametrize(
    ("name", "expected"), [(level, level) for level in _kernels.simd_levels()] + [("sse9", "GCONV_SIMD must be one of")]
)
def test_the_environment_chooses_the_instruction_set(name, expected, tmp_path):
    program = (
        "import numpy as np, gconv; from gconv.backends.cpu import kernels; gconv.get_backend(np.ones(1)); "
        "print(kernels.simd_level())"
    )
    environment = {**os.environ, "GCONV_SIMD": name, "GCONV_BACKEND": "cpu"}
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert expected in done.stdout + done.stderr
    assert (done.returncode == 0) == (name == expected)


class TestRefusals:
    """Wrong calls must raise: the kernels write through raw pointers."""

    def test_columns_of_another_shape(self):
        with pytest.raises(ValueError, match="cols must have shape"):
            _kernels.im2col(np.zeros((1, 1, 4, 4)), np.zeros((9, 15)), WINDOWS, 1)
        with pytest.raises(ValueError, match="cols must have shape"):
            _kernels.col2im(np.zeros((9, 20)), np.zeros((1, 1, 4, 4)), WINDOWS, 1)
        with pytest.raises(ValueError, match="x must have shape"):
            _kernels.im2col(np.zeros((1, 1, 4, 5)), np.zeros((9, 16)), WINDOWS, 1)

    @pytest.mark.parametrize(
        "bad",
        [
            {"stride": (0, 1)},
            {"pad": (-1, 0)},
            {"w": (1, 1, 7, 3)},
            {"w": (1, 2, 3, 3)},
            {"out": (1, 1, 5, 4)},
            {"out": (2, 1, 4, 4)},
            {"dilation": (1, 2)},
            {"groups": 2},
            {"x": (1, 1, 4)},
        ],
        ids=str,
    )
    def test_a_geometry_that_is_none(self, bad):
        """Made by hand, without the checks of gconv.geometry."""
        with pytest.raises(ValueError, match=r"must|unpack"):
            _kernels.im2col(np.zeros((1, 1, 4, 4)), np.zeros((9, 16)), WINDOWS._replace(**bad), 1)
        for none in (None, list(WINDOWS), WINDOWS[:3]):
            with pytest.raises((TypeError, ValueError), match=r"must be a named tuple|unpack"):
                _kernels.im2col(np.zeros((1, 1, 4, 4)), np.zeros((9, 16)), none, 1)

    @pytest.mark.parametrize(
        "bad", [{"stride": (2, 0)}, {"window": (5, 2)}, {"out": (1, 1, 2, 3)}, {"out": (1, 2, 2, 2)}]
    )
    def test_a_pooling_that_is_none(self, bad):
        pooling = pool(np.zeros((1, 1, 4, 4)), 2, 2)._replace(**bad)
        out = np.zeros(pooling.out)
        with pytest.raises(ValueError, match="must"):
            _kernels.max_pool_forward(np.zeros((1, 1, 4, 4)), out, out.astype(np.uint8), pooling, 1)

    def test_another_dtype_or_layout(self):
        x = np.zeros((1, 1, 4, 4))
        with pytest.raises((ValueError, TypeError)):
            _kernels.im2col(x, np.zeros((9, 16), np.float32), WINDOWS, 1)
        with pytest.raises(ValueError, match="contiguous"):
            _kernels.im2col(x[:, :, :, ::-1], np.zeros((9, 16)), WINDOWS, 1)

    def test_a_convolution_of_other_shapes(self):
        x, w, out = np.zeros((2, 3, 5, 5)), np.zeros((4, 3, 3, 3)), np.zeros((2, 4, 5, 5))
        geometry = conv(x, w, 1, 1)
        for wrong in ({"w": np.zeros((4, 2, 3, 3))}, {"b": np.zeros(3)}, {"out": np.zeros((2, 4, 5, 6))}):
            arrays = {"x": x, "w": w, "b": np.zeros(4), "out": out, **wrong}
            with pytest.raises(ValueError, match=r"must have (shape|length)"):
                _kernels.conv_forward(*arrays.values(), geometry, False, 1)
        with pytest.raises(ValueError, match="must have shape"):
            _kernels.conv_input_gradient(out, w, np.zeros((2, 3, 5, 6)), geometry, 1)
        with pytest.raises(ValueError, match="db must have length"):
            _kernels.conv_filter_gradient(out, x, w, np.zeros(5), geometry, 1)

    def test_a_pooled_array_of_another_shape(self):
        x, out, places = np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 2), np.uint8)
        pooling = pool(x, 2, 2)
        with pytest.raises(ValueError, match="pooled array must have shape"):
            _kernels.max_pool_forward(x, np.zeros((1, 1, 2, 3)), places, pooling, 1)
        with pytest.raises(ValueError, match="dx must have shape"):
            _kernels.max_pool_backward(out, None, places, np.zeros((1, 1, 4, 3)), pooling, 1)
        conv_of_another = conv(np.zeros((1, 1, 5, 4)), np.zeros((1, 1, 1, 1)))
        with pytest.raises(ValueError, match="the pooling's input must have shape"):
            _kernels.conv_relu_pool_forward(
                np.zeros((1, 1, 5, 4)), np.zeros((1, 1, 1, 1)), np.zeros(1), out, places, conv_of_another, pooling, 1
            )
        with pytest.raises(ValueError, match="argmax must have shape"):
            _kernels.max_pool_forward(x, out, np.zeros((1, 1, 2, 1), np.uint8), pooling, 1)

    def test_products_and_vectors_of_other_lengths(self):
        a, b, out = np.zeros((3, 4)), np.zeros((4, 5)), np.zeros((3, 5))
        with pytest.raises(ValueError, match="b must have shape"):
            _kernels.matrix_product(a, False, a, False, None, out, False, 1)
        with pytest.raises(ValueError, match="out must have shape"):
            _kernels.matrix_product(a, False, b, False, None, a, False, 1)
        with pytest.raises(ValueError, match="bias must have shape"):
            _kernels.matrix_product(a, False, b, False, np.zeros(4), out, False, 1)
        with pytest.raises(ValueError, match="dw must have length 3"):
            _kernels.update("sgd", np.zeros(3), np.zeros(2), (), (0.1,), (), np.zeros(3), (), 1)
        with pytest.raises(ValueError, match="out must have length 3"):
            _kernels.update("sgd", np.zeros(3), np.zeros(3), (), (0.1,), (), np.zeros(2), (), 1)
        for old, new in ((2, 3), (3, 2)):
            states = (np.zeros(old),), (0.1,), (0.9, 0.0), np.zeros(3), (np.zeros(new),)
            with pytest.raises(ValueError, match="state must have length 3"):
                _kernels.update("momentum", np.zeros(3), np.zeros(3), *states, 1)

    def test_update_rules_and_numbers_that_do_not_exist(self):
        w = np.zeros(3)
        with pytest.raises(ValueError, match="rule must have a kernel; got 'muon'"):
            _kernels.update("muon", w, w, (), (0.1,), (), w, (), 1)
        with pytest.raises(ValueError, match="states must be 2 for adam; got 1, 2"):
            _kernels.update("adam", w, w, (w,), (0.1,), (), w, (w, w), 1)
        for numbers in (((0.1,) * 5, ()), ((), (0.1,) * 9)):
            with pytest.raises(ValueError, match="scalars and constants must be 4 and 8 at most"):
                _kernels.update("sgd", w, w, (), *numbers, w, (), 1)

    def test_labels_that_do_not_exist(self):
        x, dx = np.zeros((2, 2, 3), np.float32)
        for labels in ([0, 3], [-1, 0], [0]):
            with pytest.raises(ValueError, match=r"y must hold 2 labels in \[0, 3\)"):
                _kernels.softmax_loss(x, np.array(labels), dx)

    @pytest.mark.parametrize(("window", "width"), [((2, 2), 4), ((3, 3), 6)])
    def test_places_outside_the_window_are_not_followed(self, level, window, width):
        def ones(*shape):
            return np.ones(shape, np.float32)

        pooling = pool(ones(1, 1, 4, width), window, window)
        dx, places = ones(1, 1, 4, width), np.full((1, 1, 4 // window[0], width // window[1]), 200, np.uint8)
        _kernels.max_pool_backward(ones(*places.shape), None, places, dx, pooling, 1)
        assert not dx.any()
        dw, db = ones(1, 1, 3, 3), ones(1)
        arrays = ones(*places.shape), ones(*places.shape), places, ones(1, 1, 4, width), dw, db
        assert _kernels.conv_relu_pool_filter_gradient(*arrays, conv(dx, dw, 1, 1), pooling, 1)
        assert not dw.any()
        assert not db.any()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_a_filter_that_is_not_finite_reaches_the_pixels_it_has_a_part_in_only(
    cpu, plain, level, rng, dtype, stride, value
):
    x, w = rng.standard_normal((2, 3, 9, 20)).astype(dtype), rng.standard_normal((4, 3, 3, 5)).astype(dtype)
    w[1, 2, 0, 4] = value
    geometry = conv(x, w, stride, (1, 2))
    dout = cpu.conv_forward(x, np.ones_like(w), np.zeros(4, dtype), geometry)
    dx = cpu.conv_backward(dout, x, w, geometry)[0]
    with np.errstate(invalid="ignore"):
        expected = plain.conv_backward(*(a.astype(np.float64) for a in (dout, x, w)), geometry)[0]
    assert 0 < np.isfinite(expected).sum() < expected.size
    np.testing.assert_array_equal(np.isnan(dx), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(dx), np.isinf(expected))
    finite = np.isfinite(expected)
    assert_close(dx[finite], expected[finite], 60)
