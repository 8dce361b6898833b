"""optim.cu: all parameters in one launch, more of them than one launch takes, empty ones, odd layouts."""

from itertools import chain

import numpy as np
import pytest
from conftest import assert_close
from oracles import loops

RULES = {
    "sgd_step": (0, (0.1,)),
    "momentum_step": (1, (0.1, 0.9, False)),
    "nesterov": (1, (0.1, 0.9, True)),
    "rmsprop_step": (1, (0.1, 0.99, 1e-8)),
    "adam_step": (2, (3, 0.1, 0.9, 0.999, 1e-8, 0.0)),
    "adamw": (2, (3, 0.1, 0.9, 0.999, 1e-8, 0.05)),
}
METHODS = {"nesterov": "momentum_step", "adamw": "adam_step"}
SHAPES = [(3, 4), (1,), (0, 5), (70, 60), (5,)]


def arrays(rng, shapes, states):
    return [[np.abs(rng.standard_normal(shape)) for shape in shapes] for _ in range(2 + states)]


def step(backend, rule, groups, outs, numbers):
    getattr(backend, METHODS.get(rule, rule))(*groups, *numbers, outs)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shapes", [SHAPES, [(2, 3)] * 35], ids=["odd", "many"])
def test_every_parameter_is_updated(gpu, put, rng, rule, shapes):
    states, numbers = RULES[rule]
    groups = arrays(rng, shapes, states)
    ours = [list(put(*group)) for group in groups]
    outs = [gpu.xp.full(shape, 7, ours[0][0].dtype) for shape in shapes]
    step(gpu, rule, ours, outs, numbers)
    expected = [np.empty(shape) for shape in shapes]
    step(loops, rule, groups, expected, numbers)
    for a, b in zip([*outs, *chain(*ours[2:])], [*expected, *chain(*groups[2:])], strict=True):
        assert_close(a, b, 20)


def test_in_place_and_in_other_layouts(gpu, put, rng, dtype):
    w, dw, m, v = (np.abs(rng.standard_normal((6, 5))) for _ in range(4))
    ours = [a.T for a in put(w.T.copy(), dw, m.T.copy(), v)]
    step(gpu, "adam_step", [[ours[0]], [ours[1].T], [ours[2]], [ours[3].T]], [ours[0]], RULES["adam_step"][1])
    step(loops, "adam_step", [[w], [dw], [m], [v]], [w], RULES["adam_step"][1])
    for a, b in zip((ours[0], ours[2], ours[3].T), (w, m, v), strict=True):
        assert_close(a, b, 20)


def test_more_values_than_blocks_reach(gpu, put, monkeypatch, rng):
    from gconv.backends import gpu_training

    monkeypatch.setattr(gpu_training, "GATHER_BLOCKS", 1)
    w, dw = rng.standard_normal(9000), rng.standard_normal(9000)
    (ours,) = put(w)
    gpu.sgd_step([ours], list(put(dw)), 0.5, [ours])
    assert_close(ours, w - 0.5 * dw, 4)


@pytest.mark.parametrize("rule", ["sgd_step", "momentum_step", "rmsprop_step", "adam_step"])
def test_scalars_from_a_table_and_the_flag_that_stops(gpu, put, rng, rule):
    from gconv.backends.base import adam_scalars

    states, numbers = RULES[rule]
    groups = arrays(rng, [(3, 2)], states)
    ours, again = ([list(put(*group)) for group in groups] for _ in range(2))
    direct, tabled = gpu.xp.zeros((3, 2), ours[0][0].dtype), gpu.xp.zeros((3, 2), ours[0][0].dtype)
    step(gpu, rule, ours, [direct], numbers)
    row = adam_scalars(numbers[0], *numbers[1:4], numbers[5]) if rule == "adam_step" else numbers[:1]
    table = np.zeros((3, 4))
    table[2, : len(row)] = row
    stopped, second = gpu.asarray(np.zeros((), np.int64)), gpu.asarray(np.array(2))
    # other numbers by value, which must not be looked at
    other = (9, 99.0, *numbers[2:]) if rule == "adam_step" else (99.0, *numbers[1:])
    with gpu.controlled(stopped, gpu.asarray(table), second):
        step(gpu, rule, again, [tabled], other)
    for a, b in zip([direct, *chain(*ours[2:])], [tabled, *chain(*again[2:])], strict=True):
        assert gpu.to_numpy(a).tobytes() == gpu.to_numpy(b).tobytes()
    stopped.fill(1)
    before = gpu.to_numpy(tabled).copy()
    with gpu.controlled(stopped):
        step(gpu, rule, again, [tabled], numbers)
    assert (gpu.to_numpy(tabled) == before).all()
