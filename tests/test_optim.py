"""Update rules: their formulas, their state, in-place steps, PyTorch."""

import numpy as np
import pytest

from gconv import optim
from gconv.optim import UPDATE_RULES

STEPS = 5


def formula(name, w, dw, state):
    """One step written out from the papers, in float64."""
    rate = {"adam": 1e-3, "adamw": 1e-3}.get(name, 1e-2)
    if name == "sgd":
        return w - rate * dw
    if name in ("sgd_momentum", "nesterov_momentum"):
        v = state.get("v", 0)
        state["v"] = 0.9 * v - rate * dw
        return w + (state["v"] if name == "sgd_momentum" else -0.9 * v + 1.9 * state["v"])
    if name == "rmsprop":
        state["c"] = 0.99 * state.get("c", 0) + 0.01 * dw**2
        return w - rate * dw / (np.sqrt(state["c"]) + 1e-8)
    t = state["t"] = state.get("t", 0) + 1
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * dw
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * dw**2
    decay = rate * 1e-2 * w if name == "adamw" else 0
    return w - decay - rate * (state["m"] / (1 - 0.9**t)) / (np.sqrt(state["v"] / (1 - 0.999**t)) + 1e-8)


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_formula_over_some_steps(backend, rng, dtype, name):
    w = rng.standard_normal((4, 5)).astype(dtype)
    ours, exact, config, state = backend.asarray(w), w.astype(np.float64), None, {}
    for _ in range(STEPS):
        dw = rng.standard_normal((4, 5)).astype(dtype)
        ours, config = UPDATE_RULES[name](ours, backend.asarray(dw), config)
        exact = formula(name, exact, dw.astype(np.float64), state)
    assert ours.dtype == dtype
    np.testing.assert_allclose(backend.to_numpy(ours), exact, rtol=0, atol=1e-12 if dtype == np.float64 else 2e-6)


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_without_out_nothing_given_is_changed(backend, rng, name):
    w, dw = (backend.asarray(rng.standard_normal(6)) for _ in range(2))
    _, config = UPDATE_RULES[name](w, dw)
    kept = {key: value for key, value in config.items() if hasattr(value, "shape")}
    before = {key: backend.to_numpy(value).copy() for key, value in {**kept, "w": w, "dw": dw}.items()}
    UPDATE_RULES[name](w, dw, config)
    for key, value in {**kept, "w": w, "dw": dw}.items():
        np.testing.assert_array_equal(backend.to_numpy(value), before[key])


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("name", UPDATE_RULES)
def test_out_gives_the_same_bits_in_place(backend, rng, dtype, name, elsewhere):
    w = backend.asarray(rng.standard_normal((3, 4)).astype(dtype))
    plain, in_place, plain_config, config = w, w.copy(), {}, {}
    for _ in range(STEPS):
        dw = backend.asarray(rng.standard_normal((3, 4)).astype(dtype))
        plain, plain_config = UPDATE_RULES[name](plain, dw, plain_config)
        out = backend.xp.empty_like(in_place) if elsewhere else in_place
        state = {key: value for key, value in config.items() if hasattr(value, "shape")}
        returned, config = UPDATE_RULES[name](in_place, dw, config, out=out)
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
        ours, config = UPDATE_RULES[name](ours, backend.asarray(dw), config)
    np.testing.assert_allclose(backend.to_numpy(ours), leaf.detach().numpy(), rtol=1e-9)
