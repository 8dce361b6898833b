"""UCLA's ECE C147/C247: the calls of its homework, and the figures that its notebooks print."""

import numpy as np
import pytest
from gconv.courses.ucla.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array, rel_error

from gconv.courses.ucla import layer_tests
from gconv.courses.ucla.cnn import *  # noqa: F403
from gconv.courses.ucla.conv_layer_utils import conv_relu_pool_backward, conv_relu_pool_forward
from gconv.courses.ucla.conv_layers import *  # noqa: F403
from gconv.courses.ucla.fc_net import *  # noqa: F403
from gconv.courses.ucla.neural_net import TwoLayerNet as TrainedNet
from gconv.courses.ucla.optim import adam, rmsprop, sgd_nesterov_momentum
from gconv.courses.ucla.solver import Solver
from gconv.data_utils import make_synthetic_data


def test_the_two_layer_net_with_transposed_weights():
    np.random.seed(0)
    net = TrainedNet(4, 10, 3, std=1e-1)
    np.random.seed(1)
    X, y = 10 * np.random.randn(5, 4), np.array([0, 1, 2, 2, 1])
    assert {name: w.shape for name, w in net.params.items()} == {"W1": (10, 4), "b1": (10,), "W2": (3, 10), "b2": (3,)}
    scores = net.loss(X)
    np.testing.assert_allclose(scores[0], [-1.07260209, 0.05083871, -0.87253915], atol=1e-8)
    loss, grads = net.loss(X, y, reg=0.05)
    assert float(loss) == pytest.approx(1.071696123862817, rel=1e-12)
    for name in net.params:
        numeric = eval_numerical_gradient(lambda _: net.loss(X, y, reg=0.05)[0], net.params[name], verbose=False)
        assert rel_error(numeric, grads[name]) < 1e-7
    np.random.seed(0)
    net = TrainedNet(4, 10, 3, std=1e-1)
    stats = net.train(X, y, X, y, learning_rate=1e-1, reg=5e-6, num_iters=100, verbose=False)
    assert stats["loss_history"][-1] == pytest.approx(0.014497864587765886, rel=1e-6)
    assert (net.predict(X) == y).all()


def test_the_two_layer_net_of_fc_net():
    model = TwoLayerNet(input_dim=5, hidden_dims=50, num_classes=7, weight_scale=1e-2)  # noqa: F405
    spans = {"W1": (-0.7, 0.3), "b1": (-0.1, 0.9), "W2": (-0.3, 0.4), "b2": (-0.9, 0.1)}
    for name, (low, high) in spans.items():
        shape = model.params[name].shape
        model.params[name] = np.linspace(low, high, np.prod(shape)).reshape(shape)
    X, y = np.linspace(-5.5, 4.5, num=15).reshape(5, 3).T.copy(), np.array([0, 5, 1])
    assert float(model.loss(X)[0, 0]) == pytest.approx(11.53165108, abs=1e-8)
    assert float(model.loss(X, y)[0]) == pytest.approx(3.4702243556, abs=1e-10)
    model.reg = 1.0
    assert float(model.loss(X, y)[0]) == pytest.approx(26.5948426952, abs=1e-10)


def handout(low, high):
    return np.linspace(low, high, num=20).reshape(4, 5)


def corners(array):
    return [array[0, 0], array[-1, -1]]


def test_the_update_rules_with_this_course_s_keys():
    """First and last value of what the optimisation notebook compares with."""
    w, dw, v = handout(-0.4, 0.6), handout(-0.6, 0.4), handout(0.6, 0.9)
    config = {"learning_rate": 1e-3, "velocity": v}
    next_w, _ = sgd_nesterov_momentum(w, dw, config=config)
    assert corners(next_w) == pytest.approx([0.08714, 1.32824], abs=1e-8)
    assert corners(config["velocity"]) == pytest.approx([0.5406, 0.8096], abs=1e-8)
    config = {"learning_rate": 1e-2, "a": v}
    next_w, returned = rmsprop(w, dw, config=config)
    assert returned is config
    assert set(config) == {"learning_rate", "decay_rate", "epsilon", "a"}
    assert corners(next_w) == pytest.approx([-0.39223849, 0.59576619], abs=1e-8)
    assert corners(config["a"]) == pytest.approx([0.5976, 0.8926], abs=1e-8)
    config = {"learning_rate": 1e-2, "v": v, "a": handout(0.7, 0.5), "t": 5}
    next_w, _ = adam(w, dw, config=config)
    assert corners(next_w) == pytest.approx([-0.40094747, 0.59801459], abs=1e-8)
    assert corners(config["a"]) == pytest.approx([0.69966, 0.49966], abs=1e-8)
    assert corners(config["v"]) == pytest.approx([0.48, 0.85], abs=1e-8)
    assert config["t"] == 6
    _, config = adam(w, dw)
    assert config["t"] == 1


def test_a_config_that_is_none_is_refused_as_gconv_optim_does():
    for rule in (rmsprop, adam):
        with pytest.raises(TypeError, match=rf"{rule.__name__}: config must be a dictionary; got int"):
            rule(np.ones(2), np.ones(2), 5)


def test_dropout_keeps():
    np.random.seed(0)
    x = np.random.randn(500, 500) + 10
    out, _ = dropout_forward(x, {"mode": "train", "p": 0.3})  # noqa: F405
    assert float((out == 0).mean()) == pytest.approx(0.7, abs=3e-3)
    model = FullyConnectedNet([20, 30], 15, 10, dropout=0.6, use_batchnorm=True)  # noqa: F405
    assert model.dropout_param["p"] == 0.6
    assert "gamma2" in model.params
    assert model.use_batchnorm
    for off in (0, 1):
        assert not FullyConnectedNet([4], dropout=off).use_dropout  # noqa: F405


def test_a_solver_knows_nesterov_s_momentum_by_its_name_here():
    model = FullyConnectedNet([10], 192, 4, weight_scale=5e-2)  # noqa: F405
    solver = Solver(
        *(model, make_synthetic_data()),
        num_epochs=1,
        update_rule="sgd_nesterov_momentum",
        optim_config={"learning_rate": 1e-2},
        verbose=False,
    )
    solver.train()
    assert solver.update_rule == "nesterov_momentum"


def test_the_convolutional_layers():
    np.random.seed(0)
    x, w, b = (np.random.randn(*shape) for shape in ((2, 3, 8, 8), (3, 3, 3, 3), (3,)))
    params = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = conv_relu_pool_forward(x, w, b, *params)
    dout = np.random.randn(*out.shape)
    _, dw, _ = conv_relu_pool_backward(dout, cache)
    numeric = eval_numerical_gradient_array(lambda w: conv_relu_pool_forward(x, w, b, *params)[0], w, dout)
    assert rel_error(numeric, dw) < 1e-6
    assert conv_forward_naive(x, w, b, params[0])[0].shape == (2, 3, 8, 8)  # noqa: F405
    model = ThreeLayerConvNet(input_dim=(3, 8, 8), num_filters=2, filter_size=3, hidden_dim=7, use_batchnorm=False)  # noqa: F405
    assert model.loss(x).shape == (2, 10)


@pytest.mark.parametrize("cls", [FullyConnectedNet, TwoLayerNet])  # noqa: F405
def test_loss_options_are_gconv_s(cls):
    sizes = {"hidden_dims": 5} if cls is TwoLayerNet else {"hidden_dims": [5]}  # noqa: F405
    model = cls(input_dim=4, num_classes=3, loss_options={"ignore_label": 9}, **sizes)
    loss, grads = model.loss(np.ones((2, 4)), np.array([9, 9]))
    assert (float(loss), model.config["loss_options"]) == (0, {"ignore_label": 9})
    assert not grads["b2"].any()


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"ThreeLayerConvNet: use_batchnorm must be False"):
        ThreeLayerConvNet(use_batchnorm=True)  # noqa: F405
    with pytest.raises(ValueError, match=r"TwoLayerNet: .* got hidden_dim\. .*gconv.classifiers.fc_net"):
        TwoLayerNet(hidden_dim=3)  # noqa: F405
    with pytest.raises(ValueError, match=r"TwoLayerNet: .* got input_dim\. .*gconv.classifiers.fc_net"):
        TrainedNet(input_dim=4)
    with pytest.raises(ValueError, match=r"TwoLayerNet: dropout must be 0 or 1"):
        TwoLayerNet(dropout=0.5)  # noqa: F405


def test_the_layer_tests_print_small_errors(capsys):
    np.random.seed(0)
    for name in layer_tests.__all__:
        if name.endswith("_test"):
            getattr(layer_tests, name)()
    lines = capsys.readouterr().out.splitlines()
    errors = [float(line.split(": ")[1]) for line in lines if "error" in line or "difference" in line]
    assert len(errors) == 1 + 3 + 1 + 1 + 3 + 2 * 6
    assert max(errors) < 1e-4
