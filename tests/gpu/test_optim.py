"""optim.cu: all parameters in one launch, more of them than one launch takes, empty ones, odd layouts."""

import numpy as np
import pytest
from conftest import assert_close
from update_oracle import draw_update, flattened, fresh, numbers_of, run_update, update_formula

from gconv.backends.base import StepControl
from gconv.backends.update_rules import UPDATE_RULES

SHAPES = [(3, 4), (1,), (0, 5), (70, 60), (), (5,)]


def moved(gpu, arrays):
    """Copy (ws, states) to the device."""
    return [gpu.asarray(w) for w in arrays[0]], [[gpu.asarray(a) for a in state] for state in arrays[1]]


def bits(gpu, arrays):
    return [gpu.to_numpy(a).tobytes() for a in flattened(*arrays)]


@pytest.mark.parametrize("rule", UPDATE_RULES)
@pytest.mark.parametrize("shapes", [SHAPES, [(2, 3)] * 35], ids=["odd", "many"])
def test_every_parameter_is_updated(gpu, rng, dtype, rule, shapes):
    ws, dws, states = draw_update(rng, rule, shapes, dtype)
    ours, (grads, _) = moved(gpu, (ws, states)), moved(gpu, (dws, []))
    before, new = bits(gpu, ours), fresh(*ours)
    run_update(gpu, rule, ours, grads, new, 3)
    assert bits(gpu, ours) == before
    for a, b in zip(flattened(*new), flattened(*update_formula(rule, 3, ws, states, dws)), strict=True):
        assert_close(a, b, 20)
    run_update(gpu, rule, ours, grads, ours, 3)
    assert bits(gpu, ours) == bits(gpu, new)


@pytest.mark.parametrize("rule", ["rmsprop", "adam"])
def test_other_layouts(gpu, rng, dtype, rule):
    ws, dws, states = draw_update(rng, rule, [(6, 5)], dtype)
    expected = update_formula(rule, 2, ws, states, dws)
    ours = moved(gpu, (ws, states))
    # The same values in columns, to be written there as well.
    ours = [w.T.copy().T for w in ours[0]], [[a.T.copy().T for a in state] for state in ours[1]]
    grads = [gpu.asarray(np.repeat(dw, 2, axis=0))[::2] for dw in dws]
    run_update(gpu, rule, ours, grads, ours, 2)
    for a, b in zip(flattened(*ours), flattened(*expected), strict=True):
        assert_close(a, b, 20)


def test_more_values_than_blocks_reach(gpu, rng, dtype, monkeypatch):
    from gconv.backends import gpu_training

    monkeypatch.setattr(gpu_training, "GATHER_BLOCKS", 1)
    ws, dws, _ = draw_update(rng, "sgd", [9000], dtype)
    ours, (grads, _) = moved(gpu, (ws, [])), moved(gpu, (dws, []))
    run_update(gpu, "sgd", ours, grads, ours)
    assert_close(ours[0][0], update_formula("sgd", 1, ws, [], dws)[0][0], 4)


@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_scalars_from_a_table_and_the_flag_that_stops(gpu, rng, dtype, rule):
    ws, dws, states = draw_update(rng, rule, [(3, 2), (4,)], dtype)
    ours, (grads, _) = moved(gpu, (ws, states)), moved(gpu, (dws, []))
    direct, tabled = fresh(*ours), fresh(*ours)
    run_update(gpu, rule, ours, grads, direct, 3)
    table, scalars = np.full((3, 5, 4), 1e9), UPDATE_RULES[rule].scalars
    row = scalars(numbers_of(rule), 3)
    table[2, 1, : len(row)] = row
    stopped, second = gpu.asarray(np.zeros((), np.int64)), gpu.asarray(np.array(2))
    # Another rate by value, which must not be looked at.
    run_update(gpu, rule, ours, grads, tabled, 9, StepControl(stopped, gpu.asarray(table), second, 1), rate=99.0)
    assert bits(gpu, tabled) == bits(gpu, direct)
    stopped.fill(1)
    before = bits(gpu, tabled)
    run_update(gpu, rule, tabled, grads, tabled, 3, StepControl(stopped))
    assert bits(gpu, tabled) == before


def test_what_a_launch_is_given_fits_into_its_arguments():
    from gconv.backends.gpu_training import CONTROL, TENSORS

    assert TENSORS.itemsize + CONTROL.itemsize <= 4096
