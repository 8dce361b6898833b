"""What is wrong in the layers that the course ships: each defect is a test that passes here."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from conftest import assert_close
from oracles import Case, naive_conv, naive_pool

from gconv import fast_layers
from gconv.fast_layers import (
    conv_backward_fast,
    conv_backward_im2col,
    conv_forward_fast,
    conv_forward_im2col,
    conv_forward_strides,
    max_pool_backward_fast,
    max_pool_forward_fast,
)
from gconv.layer_utils import conv_relu_pool_backward, conv_relu_pool_forward


@pytest.mark.parametrize("method", ["fast", "im2col", "reshape"])
@pytest.mark.parametrize("window", [(3, 3, 1), (3, 3, 2), (2, 2, 2)])
def test_overlapping_windows_and_windows_that_leave_a_rest(backend, rng, method, window):
    x = rng.standard_normal((2, 3, 7, 7))
    pool_param = dict(zip(("pool_height", "pool_width", "stride"), window, strict=True))
    out, cache = getattr(fast_layers, f"max_pool_forward_{method}")(backend.asarray(x), pool_param)
    np.testing.assert_array_equal(backend.to_numpy(out), naive_pool(x, pool_param))
    dout = rng.standard_normal(out.shape)
    dx = getattr(fast_layers, f"max_pool_backward_{method}")(backend.asarray(dout), cache)
    assert_close(dx, naive_pool(x, pool_param, dout), 9)


@pytest.mark.parametrize("size", [(3, 5), (5, 3), (1, 7)])
def test_rectangular_filters_by_im2col(backend, rng, size):
    case = Case(
        rng.standard_normal((2, 3, 8, 9)),
        rng.standard_normal((4, 3, *size)),
        rng.standard_normal(4),
        {"stride": 1, "pad": 2},
        {},
    )
    arrays = [backend.asarray(a) for a in (case.x, case.w, case.b)]
    out, cache = conv_forward_im2col(*arrays, case.conv_param)
    assert_close(out, naive_conv(case), 45)
    dout = rng.standard_normal(out.shape)
    for ours, theirs in zip(conv_backward_im2col(backend.asarray(dout), cache), naive_conv(case, dout), strict=True):
        assert_close(ours, theirs, 180)


def test_fortran_order_and_channels_last(backend, rng):
    x = rng.standard_normal((3, 4, 6, 5))
    w, b = backend.asarray(rng.standard_normal((2, 4, 3, 3))), backend.asarray(rng.standard_normal(2))
    conv_param = {"stride": 1, "pad": 1}
    expected = backend.to_numpy(conv_forward_fast(backend.asarray(x), w, b, conv_param)[0])
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for view in (np.asfortranarray(x), last, x[::-1][::-1], np.repeat(x, 2, axis=3)[..., ::2]):
        for forward in (conv_forward_fast, conv_forward_im2col, conv_forward_strides):
            np.testing.assert_allclose(
                backend.to_numpy(forward(backend.asarray(view), w, b, conv_param)[0]), expected, rtol=1e-12, atol=1e-12
            )


def test_all_convolutions_floor_where_the_stride_does_not_divide(backend, rng):
    arrays = [backend.asarray(rng.standard_normal(s)) for s in ((2, 3, 8, 9), (4, 3, 3, 3), (4,))]
    shapes = {
        f(*arrays, {"stride": 4, "pad": 0})[0].shape
        for f in (conv_forward_fast, conv_forward_im2col, conv_forward_strides)
    }
    assert shapes == {(2, 4, 2, 2)}


@pytest.mark.parametrize("method", ["fast", "im2col", "reshape"])
def test_ties_give_their_gradient_to_one_pixel(backend, method):
    x = np.zeros((1, 1, 4, 4))
    pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    _, cache = getattr(fast_layers, f"max_pool_forward_{method}")(backend.asarray(x), pool_param)
    dx = getattr(fast_layers, f"max_pool_backward_{method}")(backend.asarray(np.ones((1, 1, 2, 2))), cache)
    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(backend.to_numpy(dx)[0, 0], expected)


def test_memory_is_bounded_and_no_columns_are_cached(backend):
    """The course keeps 642 MB for 13 MB of images, and peaks at 1.36 GB in the backward pass."""
    if backend.name != "cpu":
        pytest.skip("the bound is the cpu backend's")
    x, w, b = np.ones((1000, 3, 32, 32), np.float32), np.ones((8, 3, 7, 7), np.float32), np.zeros(8, np.float32)
    conv_param, pool_param = {"stride": 1, "pad": 3}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    tracemalloc.start()
    try:
        out, cache = conv_relu_pool_forward(x, w, b, conv_param, pool_param)
        kept, peak = tracemalloc.get_traced_memory()
        assert peak - out.nbytes * 1.25 < 32e6, "a forward pass took more than its output, its argmax and 32 MB"
        assert kept < out.nbytes * 1.25 + 1e6, "the cache keeps more than output and argmax"
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        conv_relu_pool_backward(out, cache)
        assert tracemalloc.get_traced_memory()[1] - before - x.nbytes < 32e6, (
            "a backward pass took more than dx and 32 MB"
        )
        for forward, backward, bound in (
            (lambda: conv_forward_fast(x, w, b, conv_param), conv_backward_fast, x.nbytes),
            (lambda: max_pool_forward_fast(x, pool_param), max_pool_backward_fast, x.nbytes),
        ):
            result, cache = forward()
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            backward(result, cache)
            assert tracemalloc.get_traced_memory()[1] - before - bound < 32e6
    finally:
        tracemalloc.stop()


def test_without_the_compiled_extension_everything_runs_with_one_warning(tmp_path):
    program = """
import sys, warnings
sys.modules["gconv.kernels.cpu._kernels"] = None  # its import fails, as where nothing could be compiled
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    import numpy as np
    from gconv.layer_utils import conv_relu_pool_forward, conv_relu_pool_backward
    x, w, b = np.random.randn(2, 3, 7, 7), np.random.randn(2, 3, 3, 3), np.zeros(2)
    for _ in range(2):
        out, cache = conv_relu_pool_forward(x, w, b, {"stride": 1, "pad": 1},
                                            {"pool_height": 3, "pool_width": 3, "stride": 2})
        grads = conv_relu_pool_backward(out, cache)
    from gconv.gradient_check import eval_numerical_gradient_array, rel_error
    numeric = eval_numerical_gradient_array(
        lambda w: conv_relu_pool_forward(x, w, b, {"stride": 1, "pad": 1},
                                         {"pool_height": 3, "pool_width": 3, "stride": 2})[0], w, out)
    assert rel_error(numeric, grads[1]) < 1e-6
print(len(caught), caught[0].message)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 gconv runs on NumPy alone")
    assert "Install a C++ compiler" in done.stdout
    # Where warnings are errors the first call fails, and no other.
    program = """
import sys, warnings
sys.modules["gconv.kernels.cpu._kernels"] = None
warnings.simplefilter("error")
import numpy as np
from gconv.layers import relu_forward
for _ in range(3):
    try:
        print(relu_forward(np.array([-1.0, 2.0]))[0])
    except RuntimeWarning as warning:
        print(warning)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("gconv runs on NumPy alone")
    assert rest == ["[0. 2.]"] * 2
