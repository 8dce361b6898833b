"""What a training loop asks of every backend, against NumPy: updates in any form, counters, tables, uploads."""

import math
import warnings

import numpy as np
import pytest
from conftest import assert_close
from update_oracle import copies, draw_update, flattened, fresh, numbers_of, run_update, update_formula

import gconv
from gconv.backends.base import StepControl
from gconv.backends.cpu import CpuBackend, kernels
from gconv.backends.naive import NaiveBackend
from gconv.backends.numpy_only import NumpyBackend
from gconv.backends.update_rules import UPDATE_RULES


def make(name):
    if name == "gpu":
        return gconv.get_backend()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return {"compiled": CpuBackend, "numpy": NumpyBackend, "naive": NaiveBackend}[name]()


@pytest.fixture(params=["compiled", "numpy", "naive", "gpu"])
def each(request):
    """Every build there is here: NumPy arrays on all of them, CuPy arrays where they are under test."""
    if request.param == "compiled" and kernels is None:
        pytest.skip("the kernels were not compiled here")
    if request.param == "gpu" and gconv.get_backend().name != "gpu":
        pytest.skip("needs GCONV_BACKEND=gpu, on a device or with --gpu-on-cpu")
    return make(request.param)


def counter(backend, value):
    return backend.asarray(np.array(value, np.int64))


def moved(backend, arrays):
    return [backend.asarray(w) for w in arrays[0]], [[backend.asarray(a) for a in state] for state in arrays[1]]


def in_columns(arrays):
    """Return the same values, columns first."""
    turned = [[a.T.copy().T for a in row] for row in (arrays[0], *arrays[1])]
    return turned[0], turned[1:]


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_updates_of_any_shape(each, rng, dtype, rule, layout):
    ws, dws, states = draw_update(rng, rule, [(3, 5), (), (1,), (0, 4), (7, 20)], dtype)
    expected = update_formula(rule, 4, ws, states, dws)
    ours, (grads, _) = moved(each, (ws, states)), moved(each, (dws, []))
    if layout == "columns":
        ours = in_columns(ours)
        grads = [a.T.copy().T for a in grads]
    before, apart = [each.to_numpy(a).copy() for a in flattened(*ours)], fresh(*ours)
    if layout == "columns":
        apart = in_columns(apart)
    run_update(each, rule, ours, grads, apart, 4)
    for a, b in zip(flattened(*ours), before, strict=True):
        assert each.to_numpy(a).tobytes() == b.tobytes(), "what was given has changed"
    run_update(each, rule, ours, grads, ours, 4)
    for a, b, exact in zip(flattened(*apart), flattened(*ours), flattened(*expected), strict=True):
        assert each.to_numpy(a).tobytes() == each.to_numpy(b).tobytes()
        assert_close(a, exact, 30)


@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_gradients_and_states_that_are_numpy_scalars(each, rng, dtype, rule):
    if each.name == "gpu":
        pytest.skip("operations on CuPy arrays return arrays")
    ws, dws, states = draw_update(rng, rule, [()], dtype)
    arrays, scalars = copies(ws, states), ([w.copy() for w in ws], [[a[()] for a in state] for state in states])
    expected, found = fresh(ws, states), fresh(ws, states)
    run_update(each, rule, arrays, dws, expected)
    run_update(each, rule, scalars, [dw[()] for dw in dws], found)
    for a, b in zip(flattened(*found), flattened(*expected), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_control(each, rng, rule):
    ws, dws, states = draw_update(rng, rule, [(4, 3)])
    ours, (grads, _) = moved(each, (ws, states)), moved(each, (dws, []))
    direct, tabled, stopped = fresh(*ours), fresh(*ours), fresh(*ours)
    scalars = UPDATE_RULES[rule].scalars(numbers_of(rule), 5)
    table = np.full((3, 4, 4), 1e9)
    table[1, 2, : len(scalars)] = scalars
    control = StepControl(counter(each, 0), each.asarray(table), counter(each, 1), 2)
    run_update(each, rule, ours, grads, direct, 5)
    run_update(each, rule, ours, grads, tabled, 1, control, rate=99.0)
    for a, b in zip(flattened(*tabled), flattened(*direct), strict=True):
        assert each.to_numpy(a).tobytes() == each.to_numpy(b).tobytes()
    by_value = fresh(*ours)
    run_update(each, rule, ours, grads, by_value, 5, StepControl(counter(each, 0)))
    for a, b in zip(flattened(*by_value), flattened(*direct), strict=True):
        assert each.to_numpy(a).tobytes() == each.to_numpy(b).tobytes()
    for halted in (StepControl(counter(each, 1)), control._replace(stopped=counter(each, 1))):
        run_update(each, rule, ours, grads, stopped, 5, halted)
        assert all((each.to_numpy(a) == 7).all() for a in flattened(*stopped))


def test_losses_are_recorded_until_one_is_not_finite(each, dtype):
    losses, row, stopped = each.xp.zeros(5), counter(each, 0), counter(each, 0)
    flags = []
    for value in (1.5, -2.0, np.inf, 3.0):
        each.record_loss(each.asarray(np.array(value, dtype)), losses, row, stopped)
        each.next_step(row)
        flags.append(int(stopped))
    assert each.to_numpy(losses).tolist() == [1.5, -2.0, np.inf, 3.0, 0]
    assert (flags, int(row)) == ([0, 0, 1, 1], 4)


def test_rows_and_images_of_a_step(each, rng):
    x, row = rng.integers(0, 255, (6, 3, 5, 4)).astype(np.uint8), counter(each, 1)
    table = rng.integers(0, 6, (3, 7))
    rows = each.gather_step_rows(each.asarray(x), each.asarray(table), row)
    np.testing.assert_array_equal(each.to_numpy(rows), x[table[1]])
    labels = each.gather_step_rows(each.asarray(np.arange(6)), each.asarray(table), row)
    np.testing.assert_array_equal(each.to_numpy(labels), table[1])
    draws = np.zeros((2, 6, 5), np.int32)
    draws[1] = [[1, -1, i % 2, 2, 1] for i in range(6)]
    found = each.to_numpy(each.augment_step(each.asarray(x), each.asarray(draws), row, 2))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for i in range(6):
        # from row 1 and column -1 on, of which padded has one more
        expected = padded[i, :, 2:7, 0:4].copy()
        expected = expected[:, :, ::-1].copy() if i % 2 else expected
        expected[:, 2:4, 1:3] = 0
        np.testing.assert_array_equal(found[i], expected)


def test_assign(each, rng):
    values = [rng.standard_normal((3, 2)), np.float32([1, 2]), np.array(7), np.array(True), rng.standard_normal((2, 4))]
    outs = [each.xp.zeros(value.shape, value.dtype) for value in values]
    ours, stopped = [each.asarray(value) for value in values], counter(each, 0)
    ours[4] = each.asarray(values[4].T.copy()).T
    each.assign(outs, ours, stopped)
    stopped.fill(1)
    each.assign(outs, [value + 1 for value in ours], stopped)
    for out, value in zip(outs, values, strict=True):
        assert out.dtype == value.dtype
        np.testing.assert_array_equal(each.to_numpy(out), value)


def test_upload(each, rng):
    target, values = each.xp.zeros((5, 2, 3)), rng.standard_normal((2, 3))
    each.upload(target[1:3, 1], values)
    each.upload(target[4], values[::-1])
    expected = np.zeros((5, 2, 3))
    expected[1:3, 1], expected[4] = values, values[::-1]
    values[...] = 0  # what was uploaded is the caller's again
    np.testing.assert_array_equal(each.to_numpy(target), expected)


def test_graphs_of_steps(each):
    recorder, row = each.graph_recorder(), counter(each, 0)
    if each.name != "gpu":
        assert recorder is None
        return
    each.next_step(row)
    graph = recorder.record(lambda: each.next_step(row))
    assert int(row) == 1
    graph.launch()
    graph.launch()
    each.synchronize()
    assert int(row) == 3


SIZES = {"float32": (1e20, 3e38, 1e-25, 1e-37, 1.0), "float64": (1e20, 1e200, 1e308, 1e-200, 1e-300)}


def test_clipping_where_squares_leave_the_dtype(each, rng, dtype):
    """The norm is that of math.hypot, which scales first."""
    for size in SIZES[dtype.name]:
        grads = [rng.uniform(-1, 1, shape) for shape in ((40, 3), (), (0,), (5,))]
        grads[0][::3] *= 1e-3  # squares of a common size beside those that are not
        grads = [np.asarray(g * size, dtype) for g in grads]
        largest = max(abs(float(value)) for g in grads for value in g.reshape(-1))
        norm = math.hypot(*(float(value) / largest for g in grads for value in g.reshape(-1)))
        for share in (0.01, 2.0):
            with np.errstate(all="raise"):
                found = each.clip_gradients([each.asarray(g) for g in grads], share * norm * largest)
            for ours, g in zip(found, grads, strict=True):
                np.testing.assert_allclose(each.to_numpy(ours), g * min(share, 1), rtol=1e-5, atol=1e-5 * size)
        (four,) = each.clip_gradients([each.asarray(np.full(4, size, dtype))], 1.0)
        np.testing.assert_allclose(each.to_numpy(four), 0.5 if size >= 1 else size, rtol=1e-6)


@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_numbers_that_underflow_are_no_errors(each, rule):
    """A user's ``np.seterr(all="raise")`` is for the user's own arithmetic."""
    ws, dws, states = draw_update(np.random.default_rng(1), rule, [(40,)], np.float32)
    tiny = [a * np.float32(1e-25) for a in dws]
    ours, (grads, _) = moved(each, (ws, states)), moved(each, (tiny, []))
    with np.errstate(all="raise"):
        run_update(each, rule, ours, grads, ours, t=4)
    assert all(np.isfinite(each.to_numpy(a)).all() for a in flattened(*ours))


def test_losses_and_penalties_of_extreme_scores_are_no_errors(each, dtype):
    most = np.finfo(dtype).max
    rows = [[1e4, 0, -1e4], [0, np.inf, 0], [np.nan, 0, 1], [0, -np.inf, 1e-30], [0.9 * most, 0.9 * most, 0]]
    scores = np.array(rows, dtype)
    y = each.asarray(np.array([0, 1, 2, 0, 2]))
    for row in range(len(scores)):
        x, label = each.asarray(scores[row : row + 1]), y[row : row + 1]
        weights = each.asarray(np.array([1e-30, 1, 1], dtype))
        with np.errstate(all="raise"):
            results = [each.softmax_loss(x, label), each.svm_loss(x, label)]
            results += [each.cross_entropy(x, label, class_weights=weights)]
            penalty = each.l2_penalty(results[0][0], [weights], [each.asarray(np.full(3, 1e-30, dtype))], 1e-10)
        finite = [bool(np.isfinite(each.to_numpy(loss))) for loss, _ in results]
        assert finite == [row in (0, 3, 4), row in (0, 1, 3), row in (0, 3, 4)], row
        assert np.isfinite(each.to_numpy(penalty)) == (row in (0, 3, 4))
