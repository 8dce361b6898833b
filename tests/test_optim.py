"""Update rules: their formulas, their state, in-place steps, PyTorch."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import assert_close
from update_oracle import NUMBERS, draw_update, numbers_of, update_formula

from gconv import optim
from gconv._updates import check_config, partition, step_all, step_scalars
from gconv.backends.base import StepControl
from gconv.backends.update_rules import UPDATE_RULES

STEPS = 5


@pytest.mark.parametrize("name", UPDATE_RULES)
@pytest.mark.parametrize("shape", [(4, 5), ()], ids=str)
def test_formula_over_some_steps(backend, rng, dtype, name, shape):
    ours, config = backend.asarray(rng.standard_normal(shape), dtype), numbers_of(name)
    exact, states = [backend.to_numpy(ours)], [[np.zeros(shape)] for _ in UPDATE_RULES[name].states]
    for t in range(1, STEPS + 1):
        dw = np.asarray(rng.standard_normal(shape), dtype)
        ours, config = getattr(optim, name)(ours, backend.asarray(dw), config)
        exact, states = update_formula(name, t, exact, states, [dw])
    assert ours.dtype == dtype
    assert_close(ours, exact[0], 50)


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_without_out_nothing_given_is_changed(backend, rng, name):
    w, dw = (backend.asarray(rng.standard_normal(6)) for _ in range(2))
    _, config = getattr(optim, name)(w, dw)
    kept = {key: value for key, value in config.items() if hasattr(value, "shape")}
    before = {key: backend.to_numpy(value).copy() for key, value in {**kept, "w": w, "dw": dw}.items()}
    getattr(optim, name)(w, dw, config)
    for key, value in {**kept, "w": w, "dw": dw}.items():
        np.testing.assert_array_equal(backend.to_numpy(value), before[key])


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("name", UPDATE_RULES)
def test_out_gives_the_same_bits_in_place(backend, rng, dtype, name, elsewhere):
    w = backend.asarray(rng.standard_normal((3, 4)).astype(dtype))
    plain, in_place, plain_config, config = w, w.copy(), {}, {}
    for _ in range(STEPS):
        dw = backend.asarray(rng.standard_normal((3, 4)).astype(dtype))
        plain, plain_config = getattr(optim, name)(plain, dw, plain_config)
        out = backend.xp.empty_like(in_place) if elsewhere else in_place
        state = {key: value for key, value in config.items() if hasattr(value, "shape")}
        returned, config = getattr(optim, name)(in_place, dw, config, out=out)
        assert returned is out
        assert all(config[key] is value for key, value in state.items())
        in_place = out
        np.testing.assert_array_equal(backend.to_numpy(in_place), backend.to_numpy(plain))


def test_config_keys_and_defaults_are_the_course_s(backend):
    expected = {
        "sgd": {"learning_rate": 1e-2},
        "sgd_momentum": {"learning_rate": 1e-2, "momentum": 0.9, "velocity": None},
        "rmsprop": {"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8, "cache": None},
        "adam": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "m": None, "v": None, "t": 1},
    }
    for name, keys in expected.items():
        _, config = getattr(optim, name)(backend.asarray(np.ones(2)), backend.asarray(np.ones(2)))
        assert set(config) == set(keys)
        for key, value in keys.items():
            assert config[key].shape == (2,) if value is None else config[key] == value


def test_momentum_on_the_course_s_numbers(backend):
    n, d = 4, 5
    w = np.linspace(-0.4, 0.6, num=n * d).reshape(n, d)
    dw = np.linspace(-0.6, 0.4, num=n * d).reshape(n, d)
    v = np.linspace(0.6, 0.9, num=n * d).reshape(n, d)
    next_w, config = optim.sgd_momentum(
        *(backend.asarray(a) for a in (w, dw)), {"learning_rate": 1e-3, "velocity": backend.asarray(v)}
    )
    assert backend.to_numpy(next_w)[0, 0] == pytest.approx(0.1406)
    assert backend.to_numpy(config["velocity"])[0, 0] == pytest.approx(0.5406)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "peer", "options"),
    [
        ("sgd", "SGD", {"lr": 1e-2}),
        ("sgd_momentum", "SGD", {"lr": 1e-2, "momentum": 0.9}),
        ("nesterov_momentum", "SGD", {"lr": 1e-2, "momentum": 0.9, "nesterov": True}),
        ("rmsprop", "RMSprop", {"lr": 1e-2, "alpha": 0.99}),
        ("adam", "Adam", {"lr": 1e-3}),
        ("adamw", "AdamW", {"lr": 1e-3, "weight_decay": 1e-2}),
    ],
)
def test_against_pytorch(backend, rng, name, peer, options):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'gconv[peers]'")
    w = rng.standard_normal(20)
    leaf = torch.tensor(w, requires_grad=True)
    optimizer = getattr(torch.optim, peer)([leaf], **options)
    ours, config = backend.asarray(w), None
    for _ in range(STEPS):
        dw = rng.standard_normal(20)
        leaf.grad = torch.tensor(dw)
        optimizer.step()
        ours, config = getattr(optim, name)(ours, backend.asarray(dw), config)
    np.testing.assert_allclose(backend.to_numpy(ours), leaf.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("name", UPDATE_RULES)
@pytest.mark.parametrize("in_place", [False, True])
def test_numpy_scalars_stand_for_arrays_without_axes(backend, dtype, name, in_place):
    if backend.name == "gpu":
        pytest.skip("operations on CuPy arrays return arrays")
    w, plain, config, plain_config = np.array(2, dtype), np.array(2, dtype), {}, {}
    for value in (0.5, -1, 3):
        plain, plain_config = getattr(optim, name)(plain, np.array(value, dtype), plain_config)
        # What NumPy makes of an array without axes: a[()] is a scalar.
        config = {key: a[()] if hasattr(a, "shape") else a for key, a in config.items()}
        before = w
        w, config = getattr(optim, name)(w, dtype.type(value), config, out=w if in_place else None)
        assert w.shape == ()
        assert (w is before) == in_place
        assert w.tobytes() == plain.tobytes()


def model(backend, rng, rule, dtype=np.float64):
    """Parameters of three layouts and their gradients, configs with states, as step_all takes them."""
    shapes = {"W1": (6, 5), "b1": (), "W2": (3, 4)}
    ws, dws, states = draw_update(rng, rule, shapes.values(), dtype)
    params, grads = ({n: backend.asarray(a) for n, a in zip(shapes, arrays, strict=True)} for arrays in (ws, dws))
    params["W1"] = params["W1"].T
    grads["W1"] = grads["W1"].T
    keys, configs = UPDATE_RULES[rule].states, {}
    for i, name in enumerate(shapes):
        held = {key: backend.asarray(state[i]) for key, state in zip(keys, states, strict=True)}
        configs[name] = {**numbers_of(rule), **{k: a.T if name == "W1" else a for k, a in held.items()}}
        if UPDATE_RULES[rule].counts_steps:
            configs[name]["t"] = 2
    return params, grads, configs


def like(backend, params, configs, rule):
    """Return arrays to write a step to, full of another number."""
    full = backend.xp.full
    outs = {name: full(w.shape, 7, w.dtype) for name, w in params.items()}
    return outs, {n: {key: full(w.shape, 7, w.dtype) for key in UPDATE_RULES[rule].states} for n, w in params.items()}


def everything(backend, params, configs):
    arrays = [*params.values(), *(a for config in configs.values() for a in config.values() if hasattr(a, "shape"))]
    return [backend.to_numpy(a).copy() for a in arrays]


@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_step_all_is_the_formula_and_changes_nothing_given(backend, rng, dtype, rule):
    params, grads, configs = model(backend, rng, rule, dtype)
    before, numbers = everything(backend, {**params, **grads}, configs), {n: dict(c) for n, c in configs.items()}
    outs, state_outs = like(backend, params, configs, rule)
    after = step_all(rule, params, {**grads, "unused": None}, configs, outs, state_outs)
    for a, b in zip(everything(backend, {**params, **grads}, configs), before, strict=True):
        assert a.tobytes() == b.tobytes()
    for name, config in numbers.items():
        assert config.keys() == configs[name].keys()
        assert all(configs[name][key] is value for key, value in config.items())
        states = [[backend.to_numpy(config[key])] for key in UPDATE_RULES[rule].states]
        w, dw = ([backend.to_numpy(a[name])] for a in (params, grads))
        (expected,), expected_states = update_formula(rule, 3, w, states, dw)
        assert_close(outs[name], expected, 50)
        assert after[name].get("t", 3) == 3
        for key, (state,) in zip(UPDATE_RULES[rule].states, expected_states, strict=True):
            assert after[name][key] is state_outs[name][key]
            assert_close(after[name][key], state, 50)


@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_two_pairs_of_arrays_and_in_place_give_the_same_bits(backend, rng, dtype, rule):
    params, grads, configs = model(backend, rng, rule, dtype)
    for name in params:  # a kernel takes rows, and another layout goes another way
        params[name], grads[name] = (
            backend.xp.ascontiguousarray(a).reshape(a.shape) for a in (params[name], grads[name])
        )
        configs[name] = {
            k: backend.xp.ascontiguousarray(a).reshape(a.shape) if hasattr(a, "shape") else a
            for k, a in configs[name].items()
        }
    inside = {name: w.copy() for name, w in params.items()}
    inside_configs = {n: {k: a.copy() if hasattr(a, "shape") else a for k, a in c.items()} for n, c in configs.items()}
    buffers = [like(backend, params, configs, rule) for _ in range(2)]
    for step in range(3):
        outs, state_outs = buffers[step % 2]
        configs, params = step_all(rule, params, grads, configs, outs, state_outs), outs
        states = {n: {k: c[k] for k in UPDATE_RULES[rule].states} for n, c in inside_configs.items()}
        inside_configs = step_all(rule, inside, grads, inside_configs, inside, states)
    for a, b in zip(everything(backend, params, configs), everything(backend, inside, inside_configs), strict=True):
        assert a.tobytes() == b.tobytes()


def test_states_that_are_missing_are_zeros(backend, rng):
    params, grads, configs = model(backend, rng, "adam")
    bare = {name: {"learning_rate": NUMBERS["learning_rate"]} for name in configs}
    outs, state_outs = like(backend, params, configs, "adam")
    after = step_all("adam", params, grads, bare, outs, state_outs)
    for name, w in params.items():
        expected, config = optim.adam(w, grads[name], dict(bare[name]))
        assert_close(outs[name], backend.to_numpy(expected), 50)
        assert list(after[name]) == list(config)
        assert (after[name]["t"], after[name]["beta1"], bare[name]) == (1, 0.9, {"learning_rate": 0.1})


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"grads": {"W2": np.ones(5)}}, ValueError, r"adam: dw for parameter 'W2' must have shape \(3, 4\) of w; got \(5,\)"),
        ({"grads": {"W2": [1.0]}}, TypeError, "adam: dw for parameter 'W2' must be a NumPy or CuPy array; got list"),
        ({"outs": {"W2": np.ones(5)}}, ValueError, r"adam: out for parameter 'W2' must have shape \(3, 4\) of w"),
        ({"outs": {"W2": np.ones((3, 4), "f4")}}, TypeError, "adam: out for parameter 'W2' must have the dtype of w"),
        ({"configs": {"W2": {"beta1": 1}}}, ValueError, r"adam: config\['beta1'\] for parameter 'W2' must be a number in"),
        ({"configs": {"W2": {"lr": 1}}}, ValueError, "adam: config for parameter 'W2' must have keys among .*; got 'lr'"),
        ({"configs": {"W2": {"t": -1}}}, ValueError, r"adam: config\['t'\] for parameter 'W2' must be an integer of at"),
        ({"configs": {"W2": {"m": np.ones(5)}}}, ValueError, r"adam: config\['m'\] for parameter 'W2' must have shape"),
        ({"states": {"W2": {"m": np.ones((3, 4))}}}, ValueError, "adam: state_outs for parameter 'W2' must have the key"),
        ({"states": {"W2": {"m": np.ones((3, 4)), "v": np.ones(5)}}}, ValueError, r"state_outs\['v'\] for parameter 'W2'"),
        ({"params": {"W2": np.ones((3, 4), int)}}, TypeError, "adam: w for parameter 'W2' must be float32 or float64"),
        ({"params": {"W3": np.ones(3)}}, ValueError, "adam: grads must have the key 'W3'"),
    ],
)  # fmt: skip
def test_every_argument_is_checked_before_the_first_write(backend, rng, change, error, text):
    params, grads, configs = model(backend, rng, "adam")
    outs, state_outs = like(backend, params, configs, "adam")
    given = {"params": params, "grads": grads, "configs": configs, "outs": outs, "states": state_outs}
    for argument, wrong in change.items():
        for name, value in wrong.items():
            put = backend.asarray if isinstance(value, np.ndarray) else lambda value: value
            if isinstance(value, dict):
                value = {k: backend.asarray(a) if isinstance(a, np.ndarray) else a for k, a in value.items()}
            given[argument] = {**given[argument], name: put(value)}
    with pytest.raises(error, match=text):
        step_all("adam", *given.values())
    assert all((a == 7).all() for a in everything(backend, outs, state_outs))


def test_a_read_only_array_is_refused_before_the_first_write(backend, rng):
    if backend.name == "gpu":
        pytest.skip("CuPy has no read-only arrays")
    params, grads, configs = model(backend, rng, "adam")
    outs, state_outs = like(backend, params, configs, "adam")
    state_outs["W2"]["v"].flags.writeable = False
    with pytest.raises(
        ValueError, match=r"adam: state_outs\['v'\] for parameter 'W2' must be an array that can be written"
    ):
        step_all("adam", params, grads, configs, outs, state_outs)
    assert all((a == 7).all() for a in everything(backend, outs, state_outs))
    w = np.ones(3)
    w.flags.writeable = False
    with pytest.raises(ValueError, match="sgd: out must be an array that can be written to; got a read-only one"):
        optim.sgd(w, w, out=w)


def test_a_rule_that_does_not_exist():
    for call in (
        lambda: partition("muon", {}, {}),
        lambda: check_config("muon", {}),
        lambda: step_scalars("muon", {}, []),
    ):
        with pytest.raises(ValueError, match=r"update_rule must be one of 'sgd', .*; got 'muon'"):
            call()


def test_parts_share_dtype_numbers_and_steps(backend):
    a32, a64 = (backend.asarray(np.ones(2), dtype) for dtype in (np.float32, np.float64))
    params = {"a": a64, "b": a32, "c": a64, "d": a64, "e": a32, "f": a64}
    configs = {name: {"learning_rate": 0.1} for name in params}
    configs["c"] = {"learning_rate": 0.2}
    configs["f"] = {"learning_rate": 0.1, "beta1": 0.9, "t": 0}  # the defaults
    assert partition("adam", params, configs) == [["a", "d", "f"], ["b", "e"], ["c"]]
    configs["d"] = {"learning_rate": 0.1, "t": 4}
    assert partition("adam", params, configs) == [["a", "f"], ["b", "e"], ["c"], ["d"]]
    configs["d"] = {"learning_rate": 0.1, "t": 4}
    assert partition("sgd", params, {n: {k: v for k, v in c.items() if k != "beta1"} for n, c in configs.items()}) == [
        ["a", "d", "f"], ["b", "e"], ["c"],
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"adam: config\['t'\] for parameter 'c' must be"):
        partition("adam", params, {**configs, "c": {"t": -1}})


@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_a_table_has_a_column_a_part(backend, rng, rule):
    """Steps with scalars from a table, several groups in it, are those that get them by value, to the bit."""
    params, grads, configs = model(backend, rng, rule)
    configs["W2"]["learning_rate"] = 0.3
    before = {"t": 8} if UPDATE_RULES[rule].counts_steps else {}  # so that the row is the tenth step
    parts, rates = partition(rule, params, configs), {"W1": [0.5, 0.25], "W2": [0.125, 0.75]}
    assert parts == [["W1", "b1"], ["W2"]]
    table = np.full((5, 2, 4), np.nan)
    for group, (name, *_) in enumerate(parts):
        for row, scalars in zip(table[3:], step_scalars(rule, {**configs[name], **before}, rates[name]), strict=True):
            row[group, : len(scalars)] = scalars
    row, stopped = (backend.asarray(np.array(n, np.int64)) for n in (4, 0))
    control = StepControl(stopped, backend.asarray(table), row)
    by_table, by_value = (like(backend, params, configs, rule) for _ in range(2))
    after = step_all(rule, params, grads, configs, *by_table, control)
    counts = {key: t + 1 for key, t in before.items()}
    for names, group in zip(parts, rates.values(), strict=True):
        own = {name: {**configs[name], "learning_rate": group[1], **counts} for name in names}
        step_all(rule, {name: params[name] for name in names}, grads, own, *by_value)
    for a, b in zip(everything(backend, *by_table), everything(backend, *by_value), strict=True):
        assert a.tobytes() == b.tobytes()
    assert {config.get("t", 3) for config in after.values()} == {3}
    stopped.fill(1)
    outs, state_outs = like(backend, params, configs, rule)
    step_all(rule, params, grads, configs, outs, state_outs, control)
    step_all(rule, params, grads, configs, outs, state_outs, StepControl(stopped))
    assert all((a == 7).all() for a in everything(backend, outs, state_outs))


def test_scalars_of_steps_to_come():
    assert step_scalars("sgd", {}, [0.5, 0.25]) == [(0.5,), (0.25,)]
    config = {"beta1": 0.5, "beta2": 0.75, "weight_decay": 0.125, "t": 1}
    expected = [(0.5 / 0.75, 1 / (1 - 0.75**2), 0.0625), (2 / 0.875, 1 / (1 - 0.75**3), 0.25)]
    assert step_scalars("adamw", config, [0.5, 2.0]) == expected
    assert step_scalars("adamw", {**config, "t": 2}, [2.0]) == expected[1:]


def test_check_config_looks_at_numbers_and_names():
    check_config("adam", {"learning_rate": 1, "t": 3, "m": None, "velocity": "unused"})
    for config, text in (({"beta2": 1.0}, "beta2"), ({"t": 0.5}, r"config\['t'\]"), ({"x": 1}, "must have keys among")):
        with pytest.raises(ValueError, match=text):
            check_config("adam", config)
    with pytest.raises(TypeError, match="adam: config must be a dictionary"):
        check_config("adam", [])


def test_a_rule_without_kernels_runs_by_its_definition(backend, rng, monkeypatch):
    rule = UPDATE_RULES["nesterov_momentum"]
    params, grads, configs = model(backend, rng, rule.name)
    (outs, states), (other_outs, other_states) = (like(backend, params, configs, rule.name) for _ in range(2))
    step_all(rule.name, params, grads, configs, outs, states)
    monkeypatch.setitem(UPDATE_RULES, rule.name, replace(rule, kernel=None))
    step_all(rule.name, params, grads, configs, other_outs, other_states)
    expected = everything(backend, outs, states)
    for a, b in zip(everything(backend, other_outs, other_states), expected, strict=True):
        assert_close(a, b, 4)


def test_arrays_of_the_other_byte_order(backend, rng):
    """As weights, gradients, states and ``out``."""
    if backend.name == "gpu":
        pytest.skip("CuPy has none")
    for rule in UPDATE_RULES:
        w, dw = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
        config = {key: rng.uniform(0.5, 1, (4, 3)) for key in UPDATE_RULES[rule].states}
        swapped = {key: value.astype(">f8") for key, value in config.items()}
        expected, after = getattr(optim, rule)(w, dw, dict(config))
        out = np.zeros((4, 3), ">f8")
        written, found = getattr(optim, rule)(w.astype(">f8"), dw.astype(">f8"), swapped, out=out)
        assert written is out
        np.testing.assert_allclose(out, expected, rtol=1e-14)
        for key in config:
            np.testing.assert_allclose(found[key], after[key], rtol=1e-14)
