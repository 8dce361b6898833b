"""CS231n since 2018, the root gconv itself: the calls of its notebooks, and the figures that they print."""

import numpy as np
import pytest

from gconv.classifiers.cnn import *  # noqa: F403
from gconv.classifiers.fc_net import *  # noqa: F403
from gconv.classifiers.neural_net import TwoLayerNet as TrainedNet
from gconv.gradient_check import eval_numerical_gradient, rel_error
from gconv.optim import rmsprop
from gconv.solver import Solver

SIZES = {"input_dim": 15, "num_classes": 10, "weight_scale": 5e-2, "dtype": np.float64}
CLOSE = {"rel": 1e-9}
FOUR = (np.ones((5, 4)), np.zeros(5, int), np.ones((2, 4)), np.zeros(2, int))


def two_samples():
    """Return the samples that the notebooks of assignment 2 check their networks with."""
    np.random.seed(231)
    return np.random.randn(2, 15), np.random.randint(10, size=2)


def loss_of(model, X, y):
    return float(model.loss(X, y)[0])


@pytest.mark.parametrize(
    ("options", "printed"),
    [({}, (2.3004790897684924, 7.052114776533016)), ({"normalization": "batchnorm"}, (2.2611955101340957, 6.99653322))],
)
def test_the_losses_of_a_fully_connected_net(options, printed):
    X, y = two_samples()
    for reg, loss in zip((0, 3.14), printed, strict=True):
        model = FullyConnectedNet([20, 30], reg=reg, **SIZES, **options)  # noqa: F405
        assert loss_of(model, X, y) == pytest.approx(loss, **CLOSE)


@pytest.mark.parametrize("name", ["dropout", "dropout_keep_ratio"])
def test_the_losses_of_the_dropout_notebook_under_both_names(name):
    X, y = two_samples()
    losses = []
    for keep in (1, 0.75):
        model = FullyConnectedNet([20, 30], seed=123, **SIZES, **{name: keep})  # noqa: F405
        losses.append(loss_of(model, X, y))
    assert losses == [pytest.approx(2.300479089768492, **CLOSE), pytest.approx(2.302371489704412, **CLOSE)]
    # The course's layer seeds the global state, which the third network's weights come from; here that is said aloud.
    state = np.random.get_state()
    third = loss_of(FullyConnectedNet([20, 30], seed=123, **SIZES, **{name: 0.5}), X, y)  # noqa: F405
    assert third == pytest.approx(2.298294504947024, **CLOSE)
    np.random.set_state(state)
    np.random.seed(123)
    np.random.rand(2, 30)
    third = loss_of(FullyConnectedNet([20, 30], seed=123, **SIZES, **{name: 0.5}), X, y)  # noqa: F405
    assert third == pytest.approx(2.304275922, abs=1e-9)


def test_a_seeded_mask_leaves_the_global_state_alone():
    """Else a training whose model has a seed would draw the same minibatch in every iteration."""
    X, y = two_samples()
    model = FullyConnectedNet([20, 30], dropout=0.5, seed=123, **SIZES)  # noqa: F405
    before = np.random.get_state()[1].copy()
    loss_of(model, X, y)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_dropout_of_0_and_1_is_none():
    for dropout in (0, 1):
        assert not FullyConnectedNet([4], dropout=dropout).use_dropout  # noqa: F405
    for both in (0.5, 1):
        with pytest.raises(ValueError, match=r"FullyConnectedNet: dropout_keep_ratio must be given under one name"):
            FullyConnectedNet([4], dropout=0.5, dropout_keep_ratio=both)  # noqa: F405
    with pytest.raises(ValueError, match=r"FullyConnectedNet: dropout must be a number in \[0, 1\]; got 2"):
        FullyConnectedNet([4], dropout=2)  # noqa: F405


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda **k: FullyConnectedNet([4], **k), {"use_batchnorm": "normalization=.*gconv.courses.cs231n_2017"}),  # noqa: F405
        (lambda **k: TwoLayerNet(**k), {"hidden_dims": "courses.ucla", "std": "classifiers.neural_net"}),  # noqa: F405
        (lambda **k: ThreeLayerConvNet(**k), {"use_batchnorm": "courses.ucla.cnn, and False"}),  # noqa: F405
        (lambda **k: TrainedNet(**k), {"input_dim": "classifiers.fc_net", "hidden_dims": "courses.ucla.fc_net"}),
        (
            lambda **k: TrainedNet(4, 5, 3).train(*FOUR, **k),
            {"lr_decay": "gconv.solver", "momentum": "courses.cs231n_2015"},
        ),
        (lambda **k: Solver(None, {}, **k), {"acc_frequency": "cs231n_2015.classifier_trainer", "reg": "cs231n_2015"}),
    ],
)
def test_an_unknown_keyword_s_error_names_the_root_that_knows_it(make, named):
    for keyword, where in named.items():
        with pytest.raises(ValueError, match=rf"keywords must be the documented ones; got {keyword}\. .*{where}"):
            make(**{keyword: 1})
    with pytest.raises(ValueError, match=r"got nonsense$"):
        make(nonsense=1)


def test_an_unknown_rule_s_and_key_s_error_names_the_root_that_knows_it():
    model = TwoLayerNet(4, 3, 2)  # noqa: F405
    with pytest.raises(ValueError, match=r"got 'sgd_nesterov_momentum'\. .* is nesterov_momentum here; .*courses.ucla"):
        Solver(model, update_rule="sgd_nesterov_momentum")
    with pytest.raises(ValueError, match=r"got 'momentum'\. .* is sgd_momentum here; .*courses.cs231n_2015"):
        Solver(model, update_rule="momentum")
    with pytest.raises(ValueError, match=r"rmsprop: config must have keys among .*; got 'a'\. 'a' is .*courses.ucla"):
        rmsprop(np.ones(2), np.ones(2), {"a": np.ones(2)})


def toy(cls):
    """Return assignment 1's network and samples; the samples' seed comes last, and the training goes on from it."""
    np.random.seed(0)
    net = cls(4, 10, 3, std=1e-1)
    np.random.seed(1)
    return net, 10 * np.random.randn(5, 4), np.array([0, 1, 2, 2, 1])


def test_the_two_layer_net_of_assignment_1(capsys):
    net, X, y = toy(TrainedNet)
    labels = y
    scores = net.loss(X)
    np.testing.assert_allclose(scores[0], [-0.81233741, -1.27654624, -0.70335995], atol=1e-8)
    loss, grads = net.loss(X, labels, reg=0.05)
    assert float(loss) == pytest.approx(1.30378789133, abs=1e-11)
    for name in net.params:
        numeric = eval_numerical_gradient(lambda _: net.loss(X, labels, reg=0.05)[0], net.params[name], verbose=False)
        assert rel_error(numeric, grads[name]) < 1e-7
    np.random.seed(0)
    net = TrainedNet(4, 10, 3, std=1e-1)
    stats = net.train(X, labels, X, labels, learning_rate=1e-1, reg=5e-6, num_iters=100, verbose=True)
    assert stats["loss_history"][-1] == pytest.approx(0.017149607938732093, rel=1e-6)
    assert {name: len(history) for name, history in stats.items()} == {
        "loss_history": 100,
        "train_acc_history": 100,
        "val_acc_history": 100,
    }
    assert (net.predict(X) == labels).all()
    assert capsys.readouterr().out == "iteration 0 / 100: loss 1.241994\n"


def test_what_the_two_layer_net_refuses():
    net, X, y = toy(TrainedNet)
    with pytest.raises(ValueError, match=r"TwoLayerNet: hidden_size must be a positive integer; got 0"):
        TrainedNet(4, 0, 3)
    with pytest.raises(ValueError, match=r"TwoLayerNet.train: batch_size must be a positive integer; got 0"):
        net.train(X, y, X, y, batch_size=0)
    with pytest.raises(ValueError, match=r"TwoLayerNet.train: len\(X\) must be a positive integer; got 0"):
        net.train(X[:0], y[:0], X, y)
    with pytest.raises(ValueError, match=r"TwoLayerNet.train: len\(X_val\) must be a positive integer; got 0"):
        net.train(X, y, X[:0], y[:0])
    with pytest.raises(ValueError, match=r"TwoLayerNet.train: y_val must have shape \(5,\) to match X_val \(5, 4\)"):
        net.train(X, y, X, y[:, None])
    with pytest.raises(ValueError, match=r"TwoLayerNet.train: keywords must be the documented ones; got mu$"):
        net.train(X, y, X, y, mu=0.9)
    with pytest.raises(TypeError, match=r"TwoLayerNet: hidden_size must be a positive integer; got None"):
        TrainedNet(4)
    with pytest.raises(ValueError, match=r"TwoLayerNet.loss: reg must be a number in \[0, inf\]; got -1"):
        net.loss(X, y, reg=-1)


def test_the_gradient_check_of_the_three_layer_net_prints_the_course_s_errors():
    # needs the NumPy rounding of softmax_loss
    np.random.seed(231)
    X, y = np.random.randn(2, 3, 16, 16), np.random.randint(10, size=2)
    model = ThreeLayerConvNet((3, 16, 16), num_filters=3, filter_size=3, hidden_dim=7, dtype=np.float64)  # noqa: F405
    _, grads = model.loss(X, y)
    printed = {}
    for name in ("W1", "W2"):
        numeric = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params[name], verbose=False, h=1e-6)
        printed[name] = f"{rel_error(numeric, grads[name]):e}"
    assert printed == {"W1": "1.380104e-04", "W2": "1.822723e-02"}
