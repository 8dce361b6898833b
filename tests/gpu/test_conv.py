"""conv.cu against the loops: every tile, split sums, odd shapes, strides that leave classes of pixels without taps."""

import numpy as np
import pytest
from conftest import assert_close
from oracles import conv, loops, pool

from gconv.geometry import pool_geometry

TILES = ["strip", "square", "large"]
# x, w, stride, pad: several tiles in each direction; depths that are no multiple of a panel; no taps for some pixels
SHAPES = [
    ((3, 3, 9, 7), (5, 3, 3, 3), (1, 1), (1, 1)),
    ((2, 2, 13, 11), (33, 2, 3, 5), (2, 1), (0, 2)),
    ((1, 5, 6, 6), (3, 5, 1, 1), (3, 2), (0, 0)),
    ((1, 1, 4, 3), (2, 1, 4, 2), (1, 3), (3, 1)),
]


@pytest.fixture(params=SHAPES, ids=["3x3", "3x5 stride 2x1", "1x1 stride 3x2", "4x2 pad 3x1"])
def case(request, rng):
    x_shape, w_shape, stride, pad = request.param
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    return x, w, rng.standard_normal(w_shape[0]), conv(x, w, stride, pad)


@pytest.mark.parametrize("tile", TILES)
def test_forward(gpu, put, force, case, tile):
    x, w, b, geometry = case
    force(tile, 1)
    out = gpu.conv_forward(*put(x, w, b), geometry)
    assert_close(out, loops.conv_forward(x, w, b, geometry), w[0].size)


def test_forward_with_many_panels_and_tiles(gpu, put, force, rng, dtype):
    x, w, b = rng.standard_normal((2, 7, 10, 9)), rng.standard_normal((35, 7, 3, 3)), rng.standard_normal(35)
    for tile in TILES:
        force(tile, 1)
        out = gpu.conv_forward(*put(x, w, b), conv(x, w, 1, 1))
        assert_close(out, loops.conv_forward(x, w, b, conv(x, w, 1, 1)), 63, tile)


def test_wide_indices(gpu, put, index_width, case):
    x, w, b, geometry = case
    out = gpu.conv_forward(*put(x, w, b), geometry)
    expected = loops.conv_forward(x, w, b, geometry)
    assert_close(out, expected, w[0].size)
    for ours, theirs in zip(
        gpu.conv_backward(*put(expected, x, w), geometry),
        loops.conv_backward(expected, x, w, geometry),
        strict=True,
    ):
        assert_close(ours, theirs, 200)


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("tile", TILES)
def test_gradients(gpu, put, force, rng, case, tile, splits):
    x, w, b, geometry = case
    dout = rng.standard_normal(loops.conv_forward(x, w, b, geometry).shape)
    force(tile, splits)
    dx, dw, db = gpu.conv_backward(*put(dout, x, w), geometry)
    expected = loops.conv_backward(dout, x, w, geometry)
    pixels = dout.size // len(w)
    assert_close(dx, expected[0], len(w) * w[0, 0].size, "dx")
    assert_close(dw, expected[1], pixels, "dw")
    assert_close(db, expected[2], pixels, "db")
    assert gpu.conv_backward(*put(dout, x, w), geometry, input_grad=False)[0] is None


def test_more_classes_than_a_grid_has_rows(gpu, put, monkeypatch, rng):
    from gconv.backends import gpu_conv

    monkeypatch.setattr(gpu_conv, "MAX_GRID_Y", 2)
    x, w, dout = rng.standard_normal((1, 2, 7, 9)), rng.standard_normal((3, 2, 3, 3)), rng.standard_normal((1, 3, 2, 3))
    dx = gpu.conv_backward(*put(dout, x, w), conv(x, w, 3))[0]
    assert_close(dx, loops.conv_backward(dout, x, w, conv(x, w, 3))[0], 27)


def test_more_classes_of_pixels_than_taps(gpu, put, rng):
    x, w = rng.standard_normal((1, 2, 7, 9)), rng.standard_normal((3, 2, 2, 2))
    dout = rng.standard_normal((1, 3, 2, 2))
    dx = gpu.conv_backward(*put(dout, x, w), conv(x, w, (4, 5)))[0]
    assert_close(dx, loops.conv_backward(dout, x, w, conv(x, w, (4, 5)))[0], 12)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("size", [(8, 6), (7, 5)], ids=["even", "with a rest"])
def test_relu_and_pooling_in_one(gpu, put, force, rng, tile, size):
    x, w, b = rng.standard_normal((3, 2, *size)), rng.standard_normal((34, 2, 3, 3)), rng.standard_normal(34)
    x[0, 0, 2, 2] = np.nan
    force(tile, 1)
    geometry = conv(x, w, 1, 1)
    pooling = pool_geometry("test", geometry.out, 2, 2)
    out, argmax = gpu.conv_relu_pool_forward(*put(x, w, b), geometry, pooling)
    with np.errstate(invalid="ignore"):
        activation = np.maximum(loops.conv_forward(x, w, b, conv(x, w, 1, 1)), 0)
    expected, places = loops.max_pool_forward(activation, pooling)
    finite = np.isfinite(expected)
    out, argmax = gpu.to_numpy(out), gpu.to_numpy(argmax)
    assert (np.isnan(out) == ~finite).all()
    assert_close(np.where(finite, out, 0), np.where(finite, expected, 0), 18)
    assert argmax.dtype == np.uint8
    # two values may round to the same, in one precision and not in the other
    assert (argmax == places).mean() > 0.98


def test_what_does_not_pool_in_one_is_composed(gpu, put, rng):
    x, w, b = rng.standard_normal((2, 2, 9, 8)), rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3)
    activation = np.maximum(loops.conv_forward(x, w, b, conv(x, w)), 0)
    for window, stride in (((3, 2), (1, 2)), ((2, 2), (1, 1)), ((1, 3), (2, 2))):
        pooling = pool(activation, window, stride)
        out, _ = gpu.conv_relu_pool_forward(*put(x, w, b), conv(x, w), pooling)
        assert_close(out, loops.max_pool_forward(activation, pooling)[0], 18)


@pytest.mark.parametrize("tile", TILES)
def test_the_bias_s_column_in_a_tile_of_its_own(gpu, put, force, rng, tile):
    """128 taps fill the tiles; the column of ones stands alone in the next."""
    x, w, dout = rng.standard_normal((2, 2, 9, 8)), rng.standard_normal((3, 2, 8, 8)), rng.standard_normal((2, 3, 2, 1))
    force(tile, 1)
    _, dw, db = gpu.conv_backward(*put(dout, x, w), conv(x, w))
    _, expected_dw, expected_db = loops.conv_backward(dout, x, w, conv(x, w))
    assert_close(dw, expected_dw, 4, "dw")
    assert_close(db, expected_db, 4, "db")


def test_same_bits_every_time(gpu, put, rng):
    x, w = rng.standard_normal((4, 3, 8, 8)), rng.standard_normal((6, 3, 3, 3))
    dout = rng.standard_normal((4, 6, 8, 8))
    first, second = (gpu.conv_backward(*put(dout, x, w), conv(x, w, 1, 1)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert gpu.to_numpy(a).tobytes() == gpu.to_numpy(b).tobytes()


def test_a_captured_run_has_the_bits_of_an_eager_one(gpu, put, rng):
    """With many filters too, for which a library's product would be tempting, but can't be captured."""
    from gconv.backends.gpu_graph import GraphRecorder

    x, w, b = put(rng.standard_normal((1, 2, 5, 4)), rng.standard_normal((400, 2, 3, 3)), rng.standard_normal(400))
    geometry = conv(x, w, 1, 1)

    def work():
        out = gpu.conv_forward(x, w, b, geometry, "relu")
        return out, *gpu.conv_backward(out, x, w, geometry)

    eager, captured, recorder = [gpu.to_numpy(a) for a in work()], [], GraphRecorder()
    graph = recorder.record(lambda: captured.extend(work()))
    graph.launch()
    gpu.synchronize()
    for ours, theirs in zip(captured, eager, strict=True):
        assert gpu.to_numpy(ours).tobytes() == theirs.tobytes()


@pytest.mark.parametrize("tile", TILES)
def test_filters_that_are_not_finite_reach_the_pixels_of_their_windows(gpu, put, force, rng, tile):
    for stride, pad in ((1, 1), ((2, 3), (2, 0)), (1, 0)):
        x, w = rng.standard_normal((2, 3, 7, 8)), rng.standard_normal((4, 3, 3, 2))
        w[1, 0, 2, 1], w[3, 2, 0, 0] = np.inf, np.nan
        geometry = conv(x, w, stride, pad)
        dout = rng.standard_normal(geometry.out)
        dout[0, 1, 0, 0] = 0  # which an infinite weight makes NaN
        force(tile, 1)
        dx = gpu.to_numpy(gpu.conv_backward(*put(dout, x, w), geometry)[0])
        with np.errstate(invalid="ignore"):
            expected = loops.conv_backward(dout, x, w, geometry)[0]
        finite = np.isfinite(expected)
        assert 0 < finite.sum() < finite.size
        np.testing.assert_array_equal(np.isfinite(dx), finite)
        np.testing.assert_array_equal(dx[~finite], expected[~finite])
        assert_close(dx[finite], expected[finite], 24)
