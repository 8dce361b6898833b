"""Models: initial loss, gradients at the course's sizes, odd images, regularisation, overfitting."""

import json
import math

import numpy as np
import pytest

import gconv
from gconv.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet, model_from_config
from gconv.data_utils import make_synthetic_data
from gconv.gradient_check import eval_numerical_gradient, rel_error
from gconv.layers import softmax_loss
from gconv.solver import Solver

# Of the notebook ConvolutionalNetworks, in its own copies and in those of people who did the course.
PRINTED_BY_THE_COURSE = {
    "W1": "1.380104e-04",
    "W2": "1.822723e-02",
    "W3": "3.064049e-04",
    "b1": "3.477652e-05",
    "b2": "2.516375e-03",
    "b3": "7.945660e-10",
}


def test_the_initial_loss_is_log_10(backend):
    np.random.seed(231)
    model = ThreeLayerConvNet()
    X, y = np.random.randn(50, 3, 32, 32), np.random.randint(10, size=50)
    loss, _ = model.loss(backend.asarray(X), backend.asarray(y))
    assert float(loss) == pytest.approx(math.log(10), abs=1e-3)
    model.reg = 0.5
    assert float(model.loss(backend.asarray(X), backend.asarray(y))[0]) > float(loss)


def test_three_layer_gradients_at_the_sizes_of_the_course(backend):
    np.random.seed(231)
    X, y = np.random.randn(2, 3, 16, 16), np.random.randint(10, size=2)
    X, y = backend.asarray(X), backend.asarray(y)
    model = ThreeLayerConvNet(num_filters=3, filter_size=3, input_dim=(3, 16, 16), hidden_dim=7, dtype=np.float64)
    _, grads = model.loss(X, y)
    # W2's smallest gradients are so small that the loss's last digit shows, which depends on the order of the sums.
    limits = {"W1": 2e-4, "W2": 5e-2, "W3": 4e-4, "b1": 1e-4, "b2": 5e-3, "b3": 1e-8}
    printed = {}
    for name, limit in limits.items():
        numeric = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params[name], verbose=False, h=1e-6)
        error = rel_error(numeric, grads[name])
        assert error < limit, name
        printed[name] = f"{error:e}"
    if backend.name == "cpu":
        assert printed == PRINTED_BY_THE_COURSE


@pytest.mark.parametrize(
    ("size", "filter_size"), [((3, 7, 7), 3), ((1, 9, 4), 5), ((2, 2, 11), 7), ((3, 6, 8), 4), ((4, 3, 5), 1)]
)
def test_odd_and_rectangular_images(backend, rng, size, filter_size):
    model = ThreeLayerConvNet(size, 3, filter_size, 6, 4, weight_scale=0.3, reg=0.1, dtype=np.float64, rng=rng)
    X, y = backend.asarray(rng.standard_normal((3, *size))), backend.asarray(np.array([0, 3, 1]))
    assert model.loss(X).shape == (3, 4)
    _, grads = model.loss(X, y)
    for name, w in model.params.items():
        numeric = eval_numerical_gradient(lambda _: model.loss(X, y)[0], w, verbose=False)
        scale = max(float(backend.xp.abs(numeric).max()), 1e-3)
        assert float(backend.xp.abs(numeric - grads[name]).max()) / scale < 1e-6, name


def test_images_too_small_to_pool_are_refused():
    with pytest.raises(ValueError, match="input_dim must leave 2x2 pixels"):
        ThreeLayerConvNet((3, 1, 8))


def test_scores_keep_the_dtype_of_the_model(backend, rng, dtype):
    model = ThreeLayerConvNet((3, 8, 8), 2, 3, 5, dtype=dtype)
    for kind in (np.float32, np.float64, np.uint8):
        assert model.loss(backend.asarray((rng.random((2, 3, 8, 8)) * 9).astype(kind))).dtype == dtype


def test_weights_come_from_the_global_state_in_order():
    np.random.seed(5)
    expected = [np.random.normal(0, 1e-2, size) for size in ((4, 3, 3, 3), (4 * 4 * 4, 6), (6, 10))]
    np.random.seed(5)
    model = ThreeLayerConvNet((3, 8, 8), 4, 3, 6, weight_scale=1e-2, dtype=np.float64)
    for name, w in zip(("W1", "W2", "W3"), expected, strict=True):
        np.testing.assert_array_equal(gconv.get_backend().to_numpy(model.params[name]), w)
    assert all(not float(abs(model.params[name]).max()) for name in ("b1", "b2", "b3"))


@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
@pytest.mark.parametrize("keep", [1, 0.75])
@pytest.mark.parametrize("reg", [0, 3.14])
def test_fully_connected_gradients(backend, normalization, keep, reg):
    np.random.seed(231)
    X, y = backend.asarray(np.random.randn(6, 15)), backend.asarray(np.random.randint(10, size=6))
    model = FullyConnectedNet(
        [20, 30], 15, 10, keep, normalization, reg=reg, weight_scale=5e-2, dtype=np.float64, seed=123
    )
    loss, grads = model.loss(X, y)
    assert float(loss) > 0
    assert grads.keys() == model.params.keys()
    for name, w in model.params.items():
        numeric = eval_numerical_gradient(lambda _: model.loss(X, y)[0], w, verbose=False)
        scale = max(float(backend.xp.abs(numeric).max()), 1e-3)
        assert float(backend.xp.abs(numeric - grads[name]).max()) / scale < 1e-5, name


def test_two_layer_net_is_the_course_s(backend):
    model = TwoLayerNet(input_dim=5, hidden_dim=50, num_classes=7, weight_scale=1e-3)
    assert model.params["W1"].dtype == np.float64
    fill = {"W1": (-0.7, 0.3, (5, 50)), "b1": (-0.1, 0.9, 50), "W2": (-0.3, 0.4, (50, 7)), "b2": (-0.9, 0.1, 7)}
    for name, (low, high, shape) in fill.items():
        model.params[name] = backend.asarray(np.linspace(low, high, num=int(np.prod(shape))).reshape(shape))
    X = np.linspace(-5.5, 4.5, num=15).reshape(5, 3).T
    scores = backend.to_numpy(model.loss(backend.asarray(X)))
    assert abs(scores[0, 0] - 11.53165108) < 1e-6
    y = backend.asarray(np.array([0, 5, 1]))
    assert float(model.loss(backend.asarray(X), y)[0]) == pytest.approx(3.4702243556)
    model.reg = 1.0
    assert float(model.loss(backend.asarray(X), y)[0]) == pytest.approx(26.5948426952)


def test_a_network_without_hidden_layers_is_linear(backend, rng):
    model = FullyConnectedNet([], 6, 3, dtype=np.float64)
    X = rng.standard_normal((2, 6))
    expected = X @ backend.to_numpy(model.params["W1"])
    np.testing.assert_allclose(backend.to_numpy(model.loss(backend.asarray(X))), expected)
    assert model.loss(backend.asarray(X), backend.asarray(np.array([0, 2])))[1].keys() == {"W1", "b1"}


@pytest.mark.parametrize(
    "model",
    [ThreeLayerConvNet((1, 6, 7), 2, 3, 4, 5), TwoLayerNet(8, 3, 2), FullyConnectedNet([4, 3], 8, 2, 0.5, "batchnorm")],
)
def test_a_model_can_be_made_again_from_its_config(model):
    twin = model_from_config(model.config)
    assert twin.config == model.config
    assert {n: (w.shape, w.dtype) for n, w in twin.params.items()} == {
        n: (w.shape, w.dtype) for n, w in model.params.items()
    }
    with pytest.raises(ValueError, match="config\\['class'\\] must be one of"):
        model_from_config({"class": "os.system"})


def test_100_images_are_overfitted(backend):
    """The course's check: 15 epochs of adam at 1e-3 on 100 noisy images."""
    np.random.seed(231)
    data = make_synthetic_data(100, 50, 0, input_dim=(3, 16, 16), num_classes=10, noise=3.0)
    model = ThreeLayerConvNet(input_dim=(3, 16, 16), weight_scale=1e-2)
    solver = Solver(
        model,
        {name: backend.asarray(a) for name, a in data.items()},
        num_epochs=15,
        batch_size=50,
        update_rule="adam",
        optim_config={"learning_rate": 1e-3},
        verbose=False,
    )
    solver.train()
    assert solver.train_acc_history[-1] > 0.85


CHOICES = {"label_smoothing": 0.1, "ignore_label": 255, "class_weights": [1.0, 0.5, 2.0, 1.0]}
NETS = {
    "three layers": lambda **options: ThreeLayerConvNet((1, 4, 4), 2, 3, 5, 4, 0.3, dtype=np.float64, **options),
    "two layers": lambda **options: TwoLayerNet(16, 5, 4, 0.3, **options),
    "fully connected": lambda **options: FullyConnectedNet([5], 16, 4, weight_scale=0.3, dtype=np.float64, **options),
}


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_loss_options_reach_the_loss_and_stay_in_the_config(backend, rng, make):
    X, y = backend.asarray(rng.standard_normal((6, 1, 4, 4))), backend.asarray(np.array([0, 255, 3, 1, 255, 2]))
    model = make(loss_options=CHOICES, rng=1)
    loss, grads = model.loss(X, y)
    expected, _ = softmax_loss(model.loss(X), y, **CHOICES)
    assert float(loss) == pytest.approx(float(expected), rel=1e-12)
    numeric = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params["b1"], verbose=False)
    assert rel_error(numeric, grads["b1"]) < 1e-5
    json.dumps(model.config)
    again = model_from_config(model.config, model.params)
    assert float(again.loss(X, y)[0]) == float(loss)
    weights = backend.asarray(np.array(CHOICES["class_weights"]))
    assert make(loss_options={"class_weights": weights}).config["loss_options"] == {
        "class_weights": [1.0, 0.5, 2.0, 1.0]
    }
    assert "loss_options" not in make().config


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"smoothing": 0.1}, ValueError, "loss_options must have keys among label_smoothing, ignore_label, class_weights; got 'smoothing'"),
        ({"label_smoothing": -1}, ValueError, r"label_smoothing must be a number in \[0, 1\]; got -1"),
        ({"class_weights": [1, 2]}, ValueError, r"class_weights must have shape \(4,\)"),
        ({"label_smoothing": False}, TypeError, "label_smoothing must be a number"),
        (5, TypeError, "loss_options must be a dictionary; got int"),
        (0, TypeError, "loss_options must be a dictionary; got int"),
        ("abc", TypeError, "loss_options must be a dictionary; got str"),
        ([("label_smoothing", 0.1)], TypeError, "loss_options must be a dictionary; got list"),
        ({"ignore_label": None, "class_weights": [1, 2, 3, float("inf")]}, ValueError, "class_weights must be finite"),
    ],
)  # fmt: skip
def test_loss_options_are_checked_when_the_model_is_made(options, error, text):
    with pytest.raises(error, match=f"^TwoLayerNet: {text}"):
        TwoLayerNet(16, 5, 4, loss_options=options)
    config = {**TwoLayerNet(16, 5, 4).config, "loss_options": options}
    with pytest.raises(error, match=f"^TwoLayerNet: {text}"):
        model_from_config(config)
    with pytest.raises(ValueError, match=r"class_weights must be finite and not negative as float32"):
        TwoLayerNet(16, 5, 2, dtype=np.float32, loss_options={"class_weights": [1, 1e39]})
